// Guest memory for tests: physical pages that exist only where something was put, and page tables over them.
#pragma once

#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "dump/pages.h"
#include "memory/address_space.h"

namespace unhang::synth {

using Page = std::vector<u8>;  // kPageSize bytes

// Physical memory as a dump's source. Pages may be removed again: that is what damage does.
class Pages final : public dump::PageSource<PhysAddr> {
 public:
  Result<Slice> at(PhysAddr pa) const override;
  std::span<const dump::PhysRange> ranges() const override;
  std::optional<u64> file_offset(PhysAddr) const override { return std::nullopt; }

  u8* page(Pfn pfn);  // makes it when it is not there
  bool has(Pfn pfn) const { return pages_.contains(pfn.value); }
  void remove(Pfn pfn);
  std::vector<Pfn> all() const;
  void write(PhysAddr pa, std::span<const u8> bytes);

 private:
  std::unordered_map<u64, Page> pages_;
  mutable std::vector<dump::PhysRange> ranges_;
  mutable bool ranges_valid_ = false;
};

// One address space being made.
class Memory {
 public:
  explicit Memory(int levels = 4);

  Pages& pages() { return *pages_; }
  std::shared_ptr<Pages> shared_pages() const { return pages_; }
  PhysAddr dtb() const { return dtb_; }
  int levels() const { return levels_; }

  Pfn new_page();
  // Another top-level table that shares the kernel half: a process's.
  PhysAddr new_process_tables();

  // Maps pages at an address, in the given tables (the kernel's by default), and returns the address.
  VirtAddr map(VirtAddr va, u64 size, PhysAddr tables = {});
  void map_page(VirtAddr va, Pfn pfn, PhysAddr tables = {});
  // The PTE of a mapped page, to make it a transition or page-file entry.
  void set_pte(VirtAddr va, u64 pte, PhysAddr tables = {});
  u64 pte(VirtAddr va, PhysAddr tables = {}) const;

  void write(VirtAddr va, const void* data, u64 size, PhysAddr tables = {});
  template <class T>
  void put(VirtAddr va, T value, PhysAddr tables = {}) {
    write(va, &value, sizeof value, tables);
  }
  template <class T>
  T get(VirtAddr va, PhysAddr tables = {}) const {
    T value{};
    read(va, &value, sizeof value, tables);
    return value;
  }

 private:
  void read(VirtAddr va, void* data, u64 size, PhysAddr tables) const;
  PhysAddr entry_of(VirtAddr va, PhysAddr tables, bool make) const;
  u64* entry(PhysAddr pa) const;
  PhysAddr translate(VirtAddr va, PhysAddr tables) const;

  std::shared_ptr<Pages> pages_;
  int levels_;
  PhysAddr dtb_;
  mutable u64 next_pfn_ = 0x1000;  // 16 MiB up
};

}  // namespace unhang::synth
