#include "dump/migration_device.h"

#include <simdjson.h>

#include <algorithm>

namespace unhang::dump {

namespace {

namespace dom = simdjson::dom;

constexpr u64 kMostDeviceBytes = 256 << 20;
constexpr u64 kMostDescription = 64 << 20;
constexpr int kMostDepth = 16;
constexpr u64 kMostDevices = 1 << 16;

u64 number(dom::element e, const char* key, u64 otherwise) {
  uint64_t v = 0;
  return e[key].get(v) == simdjson::SUCCESS ? v : otherwise;
}
std::string_view string(dom::element e, const char* key) {
  std::string_view v;
  return e[key].get(v) == simdjson::SUCCESS ? v : std::string_view();
}

bool wanted(std::string_view name) {
  return name == "cpu" || name == "cpu_common" || name == "apic";
}

// Lays the fields of a device out one after another. `fields` of a structure are those of its first element.
class Layout {
 public:
  explicit Layout(Device& device) : device_(device) {}

  void device(dom::element d) {
    fields(d, "", 0);
    subsections(d, 0);
  }

 private:
  void fields(dom::element d, const std::string& prefix, int depth) {
    dom::array list;
    if (depth > kMostDepth || d["fields"].get(list) != simdjson::SUCCESS) return;
    for (dom::element f : list) {
      const std::string name = prefix + std::string(string(f, "name"));
      const u64 size = number(f, "size", 0), count = number(f, "array_len", 1);
      const auto bytes = checked_mul(size, count);
      if (!bytes || *bytes > device_.body.size()) {
        broken_ = true;
        return;
      }
      const u64 start = at_;
      auto [it, added] = device_.fields.try_emplace(name, DeviceField{start, size, count});
      // Arrays whose elements differ in size are listed element by element.
      if (!added && it->second.offset + it->second.size * it->second.count == start &&
          it->second.size == size)
        it->second.count++;
      dom::element inner;
      if (added && f["struct"].get(inner) == simdjson::SUCCESS) fields(inner, name + ".", depth + 1);
      if (broken_) return;
      at_ = start + *bytes;
    }
  }

  // Only the subsections that were sent are in the description; each has a header in the stream, which proves
  // that the offsets up to it are right.
  void subsections(dom::element d, int depth) {
    dom::array list;
    if (depth > kMostDepth || d["subsections"].get(list) != simdjson::SUCCESS) return;
    for (dom::element s : list) {
      const std::string_view name = string(s, "vmsd_name");
      const auto header = device_.body.sub(at_, 2 + name.size());
      if (broken_ || !header || header->at<u8>(0) != 5 || header->at<u8>(1) != name.size() ||
          !header->from(2).starts_with(name)) {
        broken_ = true;
        return;
      }
      at_ += 2 + name.size() + 4;
      fields(s, "", depth + 1);
      subsections(s, depth + 1);
    }
  }

  Device& device_;
  u64 at_ = 0;
  bool broken_ = false;
};

// {0x06; u32 length; JSON} somewhere behind the devices.
std::optional<ByteView> find_description(ByteView devices) {
  const std::string_view text(reinterpret_cast<const char*>(devices.data()), devices.size());
  for (size_t at = text.find("{\""); at != text.npos; at = text.find("{\"", at + 1)) {
    if (at < 5 || text[at - 5] != 6) continue;
    const auto size = devices.be<u32>(at - 4);
    const auto json = devices.sub(at, size.value_or(0));
    // QEMU counts the JSON without a final NUL; some versions end it with a newline.
    if (json && json->size() > 2 && json->size() <= kMostDescription) return json;
  }
  return std::nullopt;
}

void put32(std::string& s, u32 v) {
  for (int shift = 24; shift >= 0; shift -= 8) s += static_cast<char>(v >> shift & 0xff);
}

// Where the body of a section {0x04; u32 id; name; u32 instance; u32 version} begins, searched from `from`
// on: devices that nobody asked for are passed by without being understood.
std::optional<u64> find_section(ByteView devices, u64 from, std::string_view name, u32 instance,
                                u32 version) {
  std::string head(1, static_cast<char>(name.size()));
  head += name;
  put32(head, instance);
  put32(head, version);
  const std::string_view text(reinterpret_cast<const char*>(devices.data()), devices.size());
  for (size_t at = text.find(head, from); at != text.npos; at = text.find(head, at + 1))
    if (at >= 5 && (text[at - 5] == 4 || text[at - 5] == 1)) return at + head.size();
  return std::nullopt;
}

void read_described(ByteView devices, dom::array list, std::vector<Device>& out) {
  constexpr int kMostMissing = 8;
  int missing = 0;
  u64 from = 0, seen = 0;
  for (dom::element d : list) {
    const std::string_view name = string(d, "name");
    if (++seen > kMostDevices) return;
    if (!wanted(name)) continue;
    Device device{.name = std::string(name),
                  .instance = static_cast<u32>(number(d, "instance_id", 0)),
                  .version = static_cast<u32>(number(d, "version", 0))};
    const auto body = find_section(devices, from, name, device.instance, device.version);
    if (!body) {
      // The order is the stream's: what is missing was cut off, and so is what follows.
      if (++missing > kMostMissing) return;
      continue;
    }
    from = *body;
    device.body = devices.from(*body);
    Layout(device).device(d);
    out.push_back(std::move(device));
  }
}

// The fixed part of section "cpu" version 12, unchanged since QEMU 1.x.
void known_cpu(Device& d) {
  d.fields = {{"env.regs", {0, 8, 16}},   {"env.eip", {128, 8}},   {"env.eflags", {136, 8}},
              {"env.segs", {236, 20, 6}}, {"env.ldt", {356, 20}},  {"env.tr", {376, 20}},
              {"env.gdt", {396, 20}},     {"env.idt", {416, 20}},  {"env.cr[0]", {456, 8}},
              {"env.cr[2]", {464, 8}},    {"env.cr[3]", {472, 8}}, {"env.cr[4]", {480, 8}},
              {"env.dr", {488, 8, 8}},    {"env.mxcsr", {556, 4}}, {"env.xmm_regs[0]", {560, 16, 16}},
              {"env.efer", {816, 8}},     {"env.star", {824, 8}},  {"env.lstar", {832, 8}},
              {"env.cstar", {840, 8}},    {"env.fmask", {848, 8}}, {"env.kernelgsbase", {856, 8}}};
}

// A CPU's neighbours: "cpu_common" stands before it, "apic" behind it, each within a few kilobytes.
void add_known(ByteView devices, std::string_view name, u32 instance, u32 version, const char* field,
               DeviceField place, u64 from, u64 to, std::vector<Device>& out) {
  const ByteView part = *devices.sub(0, std::min<u64>(to, devices.size()));
  const auto body = find_section(part, from, name, instance, version);
  if (!body) return;
  Device& d = out.emplace_back();
  d.name = name;
  d.instance = instance;
  d.version = version;
  d.body = devices.from(*body);
  d.fields = {{field, place}};
}

void read_known(ByteView devices, std::vector<Device>& out) {
  constexpr u32 kMostCpus = 4096;
  constexpr u64 kNear = 64 << 10;
  auto cpu = find_section(devices, 0, "cpu", 0, 12);
  for (u32 i = 0; i < kMostCpus && cpu && devices.covers(*cpu, 864); i++) {
    const auto next = find_section(devices, *cpu, "cpu", i + 1, 12);
    add_known(devices, "cpu_common", i, 1, "halted", {0, 4}, *cpu - std::min(*cpu, kNear), *cpu, out);
    Device& d = out.emplace_back();
    d.name = "cpu";
    d.instance = i;
    d.version = 12;
    d.body = devices.from(*cpu);
    known_cpu(d);
    add_known(devices, "apic", i, 3, "tpr", {6, 1}, *cpu, std::min(next.value_or(~u64{0}), *cpu + kNear),
              out);
    cpu = next;
  }
}

}  // namespace

std::optional<u64> Device::get(std::string_view field, u64 element) const {
  const auto it = fields.find(field);
  if (it == fields.end() || it->second.size == 0 || it->second.size > 8) return std::nullopt;
  // A structure's field belongs to element 0; the stride is the structure's.
  u64 offset = it->second.offset;
  if (element != 0) {
    const auto dot = field.rfind('.');
    const auto parent = dot == field.npos ? fields.end() : fields.find(field.substr(0, dot));
    const DeviceField& array =
        it->second.count > element || parent == fields.end() ? it->second : parent->second;
    if (element >= array.count) return std::nullopt;
    offset += element * array.size;
  }
  const auto bytes = body.sub(offset, it->second.size);
  if (!bytes) return std::nullopt;
  u64 value = 0;
  for (const u8 b : bytes->span()) value = value << 8 | b;
  return value;
}

Devices read_devices(const MigrationStream& stream) {
  Devices out;
  if (stream.devices == 0) return out;
  const ByteView rest = stream.file->bytes().from(stream.devices);
  const ByteView devices = *rest.sub(0, std::min<u64>(rest.size(), kMostDeviceBytes));
  if (const auto json = find_description(devices)) {
    dom::parser parser;
    dom::element root;
    dom::array list;
    const simdjson::padded_string padded(reinterpret_cast<const char*>(json->data()), json->size());
    if (parser.parse(padded).get(root) == simdjson::SUCCESS &&
        root["devices"].get(list) == simdjson::SUCCESS) {
      read_described(devices, list, out.list);
      out.described = !out.list.empty();
    }
  }
  if (!out.described) read_known(devices, out.list);
  return out;
}

}  // namespace unhang::dump
