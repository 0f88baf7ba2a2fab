#include "app/views/view.h"
#include "base/format.h"
#include "nt/objects/irp.h"

namespace unhang::app {

Node resource_node(Session& session, const nt::Resource& r) {
  Node n = Node::shaped("resource");
  n["address"] = r.address;
  n["name"] = session.target().symbolize(r.address);
  n["mode"] = r.mode();
  n["contention"] = r.contention;
  n["shared_waiter_count"] = r.shared_waiter_count;
  n["exclusive_waiter_count"] = r.exclusive_waiter_count;
  n["owners"] = Node::list();
  for (const nt::ResourceOwner& o : r.owners) {
    Node owner = Node::map();
    owner["thread"] = o.thread;
    owner["count"] = o.count;
    owner["raw"] = o.raw;
    owner["is_thread"] = o.is_thread;
    n["owners"].add(std::move(owner));
  }
  n["shared_waiters"] = Node::list();
  for (const VirtAddr t : r.shared_waiters) n["shared_waiters"].add(t);
  n["exclusive_waiters"] = Node::list();
  for (const VirtAddr t : r.exclusive_waiters) n["exclusive_waiters"].add(t);
  n["gaps"] = gaps_node(r.gaps);
  return n;
}

Node irp_node(Session& session, const nt::Irp& irp) {
  Node n = Node::shaped("irp");
  n["address"] = irp.address;
  n["thread"] = irp.thread;
  n["stack_count"] = u32{irp.stack_count};
  n["current_location"] = u32{irp.current_location};
  n["consistent"] = irp.consistent;
  n["current_location_address"] = irp.current() == nullptr ? Node() : Node(irp.current()->address);
  n["mdl"] = irp.mdl;
  n["system_buffer"] = irp.system_buffer;
  n["flags"] = irp.flags;
  n["cancel"] = irp.cancel;
  n["cancel_routine"] =
      irp.cancel_routine.is_null() ? Node() : Node(session.target().symbolize(irp.cancel_routine));
  n["user_event"] = irp.user_event;
  n["pending_returned"] = irp.pending_returned;
  n["requestor_mode"] = irp.user_mode ? "UserMode" : "KernelMode";
  n["status"] = irp.status;
  n["original_file"] = irp.original_file;
  n["stack"] = Node::list();
  for (const nt::IrpStackLocation& l : irp.locations) {
    Node s = Node::map();
    s["index"] = l.index;
    s["current"] = l.index == irp.current_location;
    s["used"] = l.used();
    s["major"] = nt::major_name(l.major);
    s["minor"] = nt::minor_name(l.major, l.minor);
    s["major_code"] = u32{l.major};
    s["minor_code"] = u32{l.minor};
    s["flags"] = u32{l.flags};
    s["control"] = u32{l.control};
    s["device"] = l.device;
    s["driver"] = l.device.is_null() ? Node() : Node(nt::driver_name_of_device(session.target(), l.device));
    s["file"] = l.file;
    s["completion"] = l.completion;
    s["completion_symbol"] = l.completion.is_null() ? Node() : Node(session.target().symbolize(l.completion));
    s["context"] = l.context;
    s["args"] = Node::list();
    for (const u64 a : l.arguments) s["args"].add(VirtAddr(a));
    n["stack"].add(std::move(s));
  }
  const nt::IrpStackLocation* at = irp.current();
  const VirtAddr file = at != nullptr && is_kernel(at->file) ? at->file : irp.original_file;
  if (is_kernel(file))
    if (const auto f = nt::read_file_object(session.target(), session.objects(), file))
      n["file_name"] = f->full_path();
  n["gaps"] = gaps_node(irp.gaps);
  return n;
}

Node file_node(Session& session, const nt::FileObject& f) {
  Node n = Node::shaped("file_object");
  n["address"] = f.address;
  n["name"] = f.name;
  n["path"] = f.path;
  n["full_path"] = f.full_path();
  n["volume"] = f.volume.empty() ? Node() : Node(f.volume);
  n["drive"] = f.drive.empty() ? Node() : Node(f.drive);
  n["device"] = f.device;
  n["driver"] = nt::driver_name_of_device(session.target(), f.device);
  n["vpb"] = f.vpb;
  n["related"] = f.related;
  n["fs_context"] = f.fs_context;
  n["fs_context2"] = f.fs_context2;
  n["section_pointers"] = f.section_pointers;
  n["current_offset"] = f.current_offset;
  n["flags"] = f.flags;
  n["flag_names"] = Node::list();
  for (const std::string_view s : nt::file_flag_names(f.flags)) n["flag_names"].add(s);
  std::string access;
  auto add = [&](bool set, const char* word) {
    if (set) access += (access.empty() ? "" : " ") + std::string(word);
  };
  add(f.read, "Read");
  add(f.write, "Write");
  add(f.del, "Delete");
  add(f.shared_read, "SharedRead");
  add(f.shared_write, "SharedWrite");
  add(f.shared_delete, "SharedDelete");
  n["access"] = access;
  if (const auto event = nt::Object(session.target(), f.address).address(nt::FILE_OBJECT::Event))
    if (const auto d = nt::read_dispatcher(session.target(), *event))
      n["event_signalled"] = d->signal_state > 0;
  if (const auto h = nt::read_fcb_header(session.target(), f.fs_context)) {
    n["fcb"]["node_type"] = VirtAddr(static_cast<u16>(h->node_type));
    n["fcb"]["resource"] = h->resource;
    n["fcb"]["paging_io_resource"] = h->paging_io_resource;
    n["fcb"]["file_size"] = h->file_size;
  }
  if (is_kernel(f.section_pointers)) {
    const nt::Object s(session.target(), f.section_pointers);
    n["shared_cache_map"] = s.value_or(nt::SECTION_OBJECT_POINTERS::SharedCacheMap, {});
    n["data_section"] = s.value_or(nt::SECTION_OBJECT_POINTERS::DataSectionObject, {});
    n["image_section"] = s.value_or(nt::SECTION_OBJECT_POINTERS::ImageSectionObject, {});
  }
  if (f.name_error) n["error"] = text(*f.name_error);
  return n;
}

Node device_node(Session& session, const nt::Device& d) {
  Node n = Node::shaped("device");
  n["address"] = d.address;
  n["name"] = d.name.empty() ? Node() : Node(d.name);
  n["driver"] = d.driver;
  n["driver_name"] = d.driver_name;
  n["current_irp"] = d.current_irp;
  n["type"] = d.type;
  n["flags"] = d.flags;
  n["vpb"] = d.vpb;
  n["extension"] = d.extension;
  n["attached"] = d.attached;
  n["attached_driver"] =
      is_kernel(d.attached) ? Node(nt::driver_name_of_device(session.target(), d.attached)) : Node();
  n["attached_to"] = d.attached_to;
  n["attached_to_driver"] =
      is_kernel(d.attached_to) ? Node(nt::driver_name_of_device(session.target(), d.attached_to)) : Node();
  return n;
}

Node driver_node(Session& session, const nt::Driver& d) {
  Node n = Node::shaped("driver");
  n["address"] = d.address;
  n["name"] = d.name;
  n["start"] = d.start;
  n["size"] = d.size;
  n["start_io"] = session.target().symbolize(d.start_io);
  n["unload"] = session.target().symbolize(d.unload);
  n["devices"] = Node::list();
  for (const VirtAddr va : d.devices) n["devices"].add(va);
  n["major_functions"] = Node::list();
  for (size_t i = 0; i < d.major_functions.size(); i++) {
    Node f = Node::map();
    f["major"] = nt::major_name(static_cast<u8>(i));
    f["address"] = d.major_functions[i];
    f["symbol"] = session.target().symbolize(d.major_functions[i]);
    n["major_functions"].add(std::move(f));
  }
  if (!d.device_walk.complete()) n["devices_end"] = d.device_walk.how();
  return n;
}

}  // namespace unhang::app
