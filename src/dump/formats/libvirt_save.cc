// Files that libvirt writes around a migration stream: `virsh save`, managedsave, external memory snapshots
// (--memspec), oVirt's memory volumes (FORMATS 2.2). A header, the domain's XML, the stream; the stream may
// be compressed as qemu.conf's save_image_format says, or laid out for mapped-ram ("sparse").
#include <algorithm>

#include "base/format.h"
#include "dump/container.h"
#include "dump/migration.h"

namespace unhang::dump {

namespace {

constexpr const char* kType = "libvirt save file";
constexpr u64 kHeaderSize = 92;
constexpr u64 kMostXml = 64 << 20;

std::unexpected<Error> bad(const char* detail, u64 offset = 0) {
  return fail(Error{.why = Why::bad_file, .offset = offset, .type = kType, .detail = detail});
}

// "LibvirtQemudPart" stands there until a save is complete.
bool probe(const File& file) {
  return file.bytes().starts_with("LibvirtQemud");
}

// Attribute name='value' of an XML tag; libvirt writes single quotes.
std::string_view attribute(std::string_view tag, std::string_view name) {
  const std::string key = " " + std::string(name) + "='";
  const size_t at = tag.find(key);
  if (at == tag.npos) return {};
  const std::string_view rest = tag.substr(at + key.size());
  return rest.substr(0, rest.find('\''));
}

// <address type='dimm' slot='0' base='0x100000000'/>: the one place that says where a DIMM is.
std::vector<DimmPlace> dimm_places(std::string_view xml) {
  std::vector<DimmPlace> out;
  constexpr std::string_view kTag = "<address type='dimm'";
  for (size_t at = xml.find(kTag); at != xml.npos && out.size() < 1024; at = xml.find(kTag, at + 1)) {
    const std::string_view tag = xml.substr(at, xml.substr(at).find('>'));
    const std::string slot(attribute(tag, "slot")), base(attribute(tag, "base"));
    if (slot.empty() || base.empty()) continue;
    out.push_back({static_cast<u32>(strtoul(slot.c_str(), nullptr, 0)), strtoull(base.c_str(), nullptr, 0)});
  }
  return out;
}

std::string element(std::string_view xml, std::string_view name) {
  const std::string open = fmt::format("<{}>", name);
  const size_t at = xml.find(open);
  if (at == xml.npos) return {};
  const std::string_view rest = xml.substr(at + open.size(), 256);
  std::string out(rest.substr(0, rest.find('<')));
  std::erase_if(out, [](char c) { return static_cast<unsigned char>(c) < 0x20; });
  return out;
}

enum Compression : u32 { kRaw, kGzip, kBzip2, kXz, kLzop, kZstd, kSparse };
constexpr const char* kNames[] = {"raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse"};

Result<DumpFile> open_stream(std::shared_ptr<const File> file, u64 at, u32 compression,
                             const std::vector<DimmPlace>& dimms, const OpenOptions& options) {
  if (file->bytes().from(at).starts_with("QEVM"))
    return open_migration(std::move(file), at, dimms, options.progress);
  if (compression == kRaw || compression == kSparse) return bad("no migration stream behind its XML", at);
  // The bytes decide, not the header: what they are is in their own signature.
  Unpacked inner = TRY(unpack(std::move(file), at, options));
  if (!inner.file->bytes().starts_with("QEVM"))
    return bad("what it has compressed is no migration stream", at);
  DumpFile dump = TRY(open_migration(inner.file, 0, dimms, options.progress));
  dump.gaps.insert(dump.gaps.begin(), inner.gaps.begin(), inner.gaps.end());
  return dump;
}

Result<DumpFile> open(std::shared_ptr<const File> file, const OpenOptions& options) {
  const ByteView b = file->bytes();
  if (b.size() < kHeaderSize) return bad("truncated inside its header");
  const u32 version = b.at<u32>(16), xml_size = b.at<u32>(20), compression = b.at<u32>(28);
  // A header that was written on a host of the other byte order is possible, and has never been seen.
  if (version == 0 || version > 3)
    return fail(Error{
        .why = Why::unsupported, .offset = 16, .type = kType, .detail = "an unknown version of its header"});
  if (compression > kSparse)
    return fail(Error{
        .why = Why::unsupported, .offset = 28, .type = kType, .detail = "compressed in an unknown way"});
  if (xml_size > kMostXml) return bad("the size of its XML is impossible", 20);
  if (!b.covers(kHeaderSize, xml_size)) return bad("truncated inside its XML", kHeaderSize);
  const std::string_view xml = b.c_string(kHeaderSize, xml_size);
  if (b.size() == kHeaderSize + xml_size) return bad("truncated before any memory", kHeaderSize + xml_size);

  const bool whole = b.starts_with("LibvirtQemudSave");
  DumpFile dump =
      TRY(open_stream(std::move(file), kHeaderSize + xml_size, compression, dimm_places(xml), options));
  dump.description = fmt::format("libvirt save file ({}) of domain {}: {}", kNames[compression],
                                 element(xml, "name"), dump.description);
  if (!whole) dump.gaps.push_back({"libvirt save file", "", "libvirt had not finished writing it"});
  return dump;
}

}  // namespace

extern const Format libvirt_save_format;
const Format libvirt_save_format{.name = "libvirt-save", .order = 15, .probe = probe, .open = open};

}  // namespace unhang::dump
