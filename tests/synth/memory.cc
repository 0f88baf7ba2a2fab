#include "synth/memory.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace unhang::synth {

namespace {
constexpr u64 kFrame = 0x000f'ffff'ffff'f000;
constexpr u64 kTableFlags = 0x63;  // valid, writable, accessed, dirty
}  // namespace

Result<Slice> Pages::at(PhysAddr pa) const {
  const auto it = pages_.find(pa.value() >> kPageShift);
  if (it == pages_.end()) return fail(Error{.why = Why::not_in_dump, .pa = pa});
  return Slice{it->second.data() + pa.page_offset(), pa.left_in_page(), {}};
}

std::span<const dump::PhysRange> Pages::ranges() const {
  if (!ranges_valid_) {
    ranges_.clear();
    for (const Pfn pfn : all()) {
      const PhysAddr at = pfn.address();
      if (!ranges_.empty() && ranges_.back().end() == at)
        ranges_.back().size += kPageSize;
      else
        ranges_.push_back({at, kPageSize});
    }
    ranges_valid_ = true;
  }
  return ranges_;
}

u8* Pages::page(Pfn pfn) {
  auto [it, added] = pages_.try_emplace(pfn.value);
  if (added) {
    it->second.resize(kPageSize);
    ranges_valid_ = false;
  }
  return it->second.data();
}

void Pages::remove(Pfn pfn) {
  pages_.erase(pfn.value);
  ranges_valid_ = false;
}

std::vector<Pfn> Pages::all() const {
  std::vector<Pfn> out;
  for (const auto& [pfn, page] : pages_) out.push_back(Pfn{pfn});
  std::sort(out.begin(), out.end());
  return out;
}

void Pages::write(PhysAddr pa, std::span<const u8> bytes) {
  for (u64 done = 0; done < bytes.size();) {
    const PhysAddr at = pa + done;
    const u64 n = std::min<u64>(at.left_in_page(), bytes.size() - done);
    std::memcpy(page(Pfn{at.value() >> kPageShift}) + at.page_offset(), bytes.data() + done, n);
    done += n;
  }
}

Memory::Memory(int levels) : pages_(std::make_shared<Pages>()), levels_(levels) {
  dtb_ = new_page().address();
  // NT's self-map; its slot is random since Windows 10, any upper one does.
  const PhysAddr self = dtb_ + 0x1ed * 8;
  *entry(self) = dtb_.value() | kTableFlags;
}

Pfn Memory::new_page() {
  const Pfn pfn{next_pfn_++};
  pages_->page(pfn);
  return pfn;
}

PhysAddr Memory::new_process_tables() {
  const PhysAddr tables = new_page().address();
  std::memcpy(entry(tables + 256 * 8), entry(dtb_ + 256 * 8), 256 * 8);
  *entry(tables + 0x1ed * 8) = tables.value() | kTableFlags;
  return tables;
}

u64* Memory::entry(PhysAddr pa) const {
  return reinterpret_cast<u64*>(pages_->page(Pfn{pa.value() >> kPageShift}) + pa.page_offset());
}

PhysAddr Memory::entry_of(VirtAddr va, PhysAddr tables, bool make) const {
  PhysAddr table = tables.is_null() ? dtb_ : tables;
  for (int level = levels_; level >= 1; level--) {
    const PhysAddr at = table + ((va.value() >> (12 + 9 * (level - 1))) & 0x1ff) * 8;
    if (level == 1) return at;
    u64* e = entry(at);
    if ((*e & 1) == 0) {
      UNHANG_CHECK(make);
      *e = const_cast<Memory*>(this)->new_page().address().value() | kTableFlags | 4;
    }
    table = PhysAddr(*e & kFrame);
  }
  return {};
}

void Memory::map_page(VirtAddr va, Pfn pfn, PhysAddr tables) {
  *entry(entry_of(va, tables, true)) = pfn.address().value() | kTableFlags | (is_kernel(va) ? 0 : 4);
}

VirtAddr Memory::map(VirtAddr va, u64 size, PhysAddr tables) {
  for (VirtAddr at = va.page(); at < va + size; at += kPageSize)
    if ((*entry(entry_of(at, tables, true)) & 1) == 0) map_page(at, new_page(), tables);
  return va;
}

void Memory::set_pte(VirtAddr va, u64 pte, PhysAddr tables) {
  *entry(entry_of(va, tables, true)) = pte;
}
u64 Memory::pte(VirtAddr va, PhysAddr tables) const {
  return *entry(entry_of(va, tables, true));
}

PhysAddr Memory::translate(VirtAddr va, PhysAddr tables) const {
  const u64 e = *entry(entry_of(va, tables, true));
  UNHANG_CHECK((e & 1) != 0);
  return PhysAddr((e & kFrame) + va.page_offset());
}

void Memory::write(VirtAddr va, const void* data, u64 size, PhysAddr tables) {
  const auto* from = static_cast<const u8*>(data);
  for (u64 done = 0; done < size;) {
    const VirtAddr at = va + done;
    const u64 n = std::min<u64>(at.left_in_page(), size - done);
    pages_->write(translate(at, tables), {from + done, n});
    done += n;
  }
}

void Memory::read(VirtAddr va, void* data, u64 size, PhysAddr tables) const {
  auto* to = static_cast<u8*>(data);
  for (u64 done = 0; done < size;) {
    const VirtAddr at = va + done;
    const u64 n = std::min<u64>(at.left_in_page(), size - done);
    const PhysAddr pa = translate(at, tables);
    std::memcpy(to + done, pages_->page(Pfn{pa.value() >> kPageShift}) + pa.page_offset(), n);
    done += n;
  }
}

}  // namespace unhang::synth
