#include "dump/guest_map.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "base/format.h"

namespace unhang::dump {

namespace {

constexpr u64 k4G = u64{1} << 32, kGiB = u64{1} << 30;
constexpr u64 pages(u64 bytes) {
  return bytes >> kPageShift;
}

// Memory backends carry their path in the object tree on some machine types: "/objects/ram-node0".
std::string_view leaf(std::string_view name) {
  constexpr std::string_view kObjects = "/objects/";
  return name.starts_with(kObjects) ? name.substr(kObjects.size()) : name;
}

std::optional<u32> number_behind(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  u32 n = 0;
  const std::string_view digits = name.substr(prefix.size());
  const auto r = std::from_chars(digits.data(), digits.data() + digits.size(), n);
  if (r.ec != std::errc() || r.ptr != digits.data() + digits.size()) return std::nullopt;
  return n;
}

// libvirt's hotplugged DIMMs are "memdimm0", Proxmox's "mem-dimm0".
std::optional<u32> dimm_slot(std::string_view name) {
  if (auto n = number_behind(name, "memdimm")) return n;
  return number_behind(name, "mem-dimm");
}

bool rom_or_video(std::string_view name) {
  for (const std::string_view part : {"vram", "rom", "bios", "flash", "acpi", "/", "qxl"})
    if (name.find(part) != name.npos) return true;
  return false;
}

bool may_be_ram(const RamBlock& b) {
  constexpr u64 kLeast = (u64{1} << 20) >> kPageShift;
  return b.size >= kLeast && !rom_or_video(leaf(b.name)) && !dimm_slot(leaf(b.name));
}

// The blocks that are the machine's RAM, in their order.
std::vector<const RamBlock*> main_ram(const std::vector<RamBlock>& blocks) {
  std::vector<const RamBlock*> out;
  for (const RamBlock& b : blocks)
    if (leaf(b.name) == "pc.ram") return {&b};
  for (const RamBlock& b : blocks)
    if (number_behind(leaf(b.name), "ram-node")) out.push_back(&b);
  std::ranges::stable_sort(out, {},
                           [](const RamBlock* b) { return *number_behind(leaf(b->name), "ram-node"); });
  if (!out.empty()) return out;
  // A memory backend may have any name: then the largest block that is no ROM or video memory, with those
  // that are numbered like it (-numa node,memdev=m0 -numa node,memdev=m1).
  const RamBlock* largest = nullptr;
  for (const RamBlock& b : blocks)
    if (may_be_ram(b) && (largest == nullptr || b.size > largest->size)) largest = &b;
  if (largest == nullptr) return out;
  const std::string_view name = leaf(largest->name);
  const std::string_view prefix = name.substr(0, name.find_last_not_of("0123456789") + 1);
  if (prefix.size() == name.size()) return {largest};
  for (const RamBlock& b : blocks)
    if (may_be_ram(b) && number_behind(leaf(b.name), prefix)) out.push_back(&b);
  std::ranges::stable_sort(out, {}, [&](const RamBlock* b) { return *number_behind(leaf(b->name), prefix); });
  return out;
}

// Blocks that may be RAM, under names that nobody knows: whether they belong to it the stream does not say.
std::vector<Gap> left_out(const std::vector<RamBlock>& blocks, const std::vector<const RamBlock*>& ram) {
  std::vector<Gap> gaps;
  if (ram.size() > 1 && !number_behind(leaf(ram.front()->name), "ram-node"))
    gaps.push_back({"guest memory", ram.front()->name,
                    fmt::format("{} blocks, numbered alike, are taken for the machine's RAM in that order",
                                ram.size())});
  for (const RamBlock& b : blocks)
    if (may_be_ram(b) && std::ranges::find(ram, &b) == ram.end())
      gaps.push_back(
          {"guest memory", b.name,
           fmt::format("a block of {} MiB that may be RAM is left out: the stream does not say where "
                       "it belongs",
                       b.size >> (20 - kPageShift))});
  return gaps;
}

// Bytes of RAM below 4 GiB. Measured with QEMU 7.2 (`info mtree`): pc splits from 3.5 GiB on, q35 from 2.75
// GiB on, exactly these sizes included.
u64 low_memory(std::string_view machine, u64 total) {
  if (machine.find("q35") != machine.npos) return total >= 0xB0000000 ? 0x80000000 : total;
  if (machine.starts_with("microvm")) return std::min<u64>(total, 0xC0000000);
  if (machine.find("xenfv") != machine.npos) return std::min<u64>(total, 0xF0000000);
  const bool old = machine.starts_with("pc-0.") || machine.starts_with("pc-1.") ||
                   machine.starts_with("pc-i440fx-1.") || machine.starts_with("rhel6");
  if (old) return std::min<u64>(total, 0xE0000000);
  return total >= 0xE0000000 ? 0xC0000000 : total;
}

// Adds pages [page, page + size) at an address. The VGA window at 0xA0000 is not cut out: without a VGA
// device it is RAM, with one Windows never uses it.
void place(GuestMap& map, u64 at, u64 size, u64 page) {
  if (size != 0) map.push_back({at, size, page});
}

// RAM as one line, `low` pages of it below 4 GiB and the rest from `high` on. Returns the end of it all.
u64 place_ram(GuestMap& map, const std::vector<const RamBlock*>& ram, u64 low, u64 high) {
  u64 line = 0;
  for (const RamBlock* b : ram) {
    const u64 below = line >= low ? 0 : std::min(b->size, low - line);
    place(map, line, below, b->start);
    place(map, high + (line + below - low), b->size - below, b->start + below);
    line += b->size;
  }
  return line > low ? high + (line - low) : high;
}

bool place_dimms(GuestMap& map, const std::vector<RamBlock>& blocks, const std::vector<DimmPlace>& places,
                 u64 end) {
  bool guessed = false;
  u64 next = (end + pages(kGiB) - 1) / pages(kGiB) * pages(kGiB);
  for (const RamBlock& b : blocks) {
    const auto slot = dimm_slot(leaf(b.name));
    if (!slot) continue;
    const auto known = std::ranges::find(places, *slot, &DimmPlace::slot);
    if (known == places.end()) guessed = true;
    const u64 at = known == places.end() ? next : pages(known->base);
    place(map, at, b.size, b.start);
    next = at + b.size;
  }
  return guessed;
}

// A map whose pieces overlap comes from a lie about DIMMs; the first piece keeps the addresses.
void tidy(GuestMap& map) {
  std::ranges::stable_sort(map, {}, &MapPiece::start);
  GuestMap out;
  for (MapPiece p : map) {
    const u64 end = out.empty() ? 0 : out.back().start + out.back().size;
    if (p.start < end) {
      const u64 over = std::min(p.size, end - p.start);
      p = {p.start + over, p.size - over, p.page + over};
    }
    if (p.size != 0) out.push_back(p);
  }
  map = std::move(out);
}

}  // namespace

Result<GuestMaps> guest_maps(const MigrationStream& stream, const std::vector<DimmPlace>& dimms) {
  const auto ram = main_ram(stream.blocks);
  if (ram.empty())
    return fail(Error{.why = Why::bad_file,
                      .type = "QEMU migration stream",
                      .detail = "none of its RAM blocks is guest RAM"});
  u64 total = 0;
  for (const RamBlock* b : ram) total += b->size << kPageShift;
  const u64 likely = low_memory(stream.machine, total);
  struct Split {
    u64 low, high;
  };
  std::vector<Split> splits{{likely, k4G}};
  for (const u64 low : {u64{0x80000000}, u64{0xC0000000}, u64{0xE0000000}, u64{0xB0000000}})
    if (low <= total && low != likely) splits.push_back({low, k4G});
  // AMD hosts: RAM that would reach the HyperTransport hole below 1 TiB moves to 1 TiB (QEMU 7.1).
  if (total > likely && k4G + (total - likely) > 0xFD00000000) splits.push_back({likely, u64{1} << 40});

  GuestMaps out{.maps = {}, .gaps = left_out(stream.blocks, ram)};
  bool guessed = false;
  for (const Split& s : splits) {
    GuestMap map;
    const u64 end = place_ram(map, ram, pages(s.low), pages(s.high));
    guessed |= place_dimms(map, stream.blocks, dimms, end);
    tidy(map);
    out.maps.push_back(std::move(map));
  }
  if (guessed)
    out.gaps.push_back(
        {"hotplugged memory", "",
         "the file does not say where its DIMMs are plugged: they are taken to follow the RAM in order"});
  return out;
}

}  // namespace unhang::dump
