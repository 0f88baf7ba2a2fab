// !fileobj. WinDbg documents no sample; these are the fields that it prints.
#include "report/text.h"

namespace unhang::report {

namespace {

void print(const Node& n, Text& out) {
  out.blank();
  if (const Node* e = n.find("error"))
    out.line("*** its name: {}", e->as_text());
  else
    out.raw(n.get("path").as_text().empty() ? std::string_view("(no name)") : n.get("path").as_text());
  if (n.get("full_path").as_text() != n.get("path").as_text())
    out.line("Full path: {}", n.get("full_path").as_text());
  out.blank();
  if (n.get("related").as_u64() != 0) out.line("Related File Object: 0x{:x}", n.get("related").as_u64());
  out.line("Device Object: 0x{:x}   {}", n.get("device").as_u64(), n.get("driver").as_text());
  if (!n.get("volume").is_null())
    out.line("Volume: {}{}", n.get("volume").as_text(),
             n.get("drive").is_null() ? "" : fmt::format(" ({})", n.get("drive").as_text()));
  if (n.get("vpb").as_u64() != 0) out.line("Vpb: 0x{:x}", n.get("vpb").as_u64());
  if (const Node* e = n.find("event_signalled"))
    out.raw(e->as_bool() ? "Event signalled" : "Event not signalled");
  out.line("Access: {}", n.get("access").as_text().empty() ? "none" : n.get("access").as_text());
  out.blank();
  std::string flags;
  out.line("Flags:  0x{:x}", n.get("flags").as_u64());
  for (const Node& f : n.get("flag_names").items()) out.line("        {}", f.as_text());
  out.blank();
  out.line("FsContext: 0x{:x}     FsContext2: 0x{:x}", n.get("fs_context").as_u64(),
           n.get("fs_context2").as_u64());
  if (const Node* fcb = n.find("fcb"))
    out.line("   Resource: 0x{:x}   PagingIoResource: 0x{:x}   FileSize: {}", fcb->get("resource").as_u64(),
             fcb->get("paging_io_resource").as_u64(), fcb->get("file_size").as_u64());
  out.line("CurrentByteOffset: {:x}", n.get("current_offset").as_u64());
  if (n.get("section_pointers").as_u64() != 0) {
    out.raw("Cache Data:");
    out.line("  Section Object Pointers: {:x}", n.get("section_pointers").as_u64());
    out.line("  Shared Cache Map: {:x}", n.get("shared_cache_map").as_u64());
  }
}

}  // namespace

extern const Shape file_object_shape;
const Shape file_object_shape{.name = "file_object", .print = print};

}  // namespace unhang::report
