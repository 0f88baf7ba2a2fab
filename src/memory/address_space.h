// x64 address translation with what Windows keeps in entries that are not valid: transition pages are still
// in RAM, prototype entries lead to shared pages, the rest is in a page file or was never touched.
//
// Sources: the paging chapter of the Intel and AMD manuals; _MMPTE_HARDWARE, _MMPTE_TRANSITION,
// _MMPTE_PROTOTYPE and _MMPTE_SOFTWARE of the public kernel PDBs.
#pragma once

#include <array>
#include <vector>

#include "base/source.h"

namespace unhang::memory {

// One step of a walk through the tables, for !pte and --why.
struct Step {
  u8 level = 0;  // 5 PML5E ... 1 PTE
  PhysAddr entry_pa{};
  u64 entry = 0;
};

enum class Via : u8 { valid, transition, prototype };

struct Mapping {
  PhysAddr pa{};
  u64 page_size = kPageSize;  // 4 KiB, 2 MiB or 1 GiB
  Via via = Via::valid;
};

struct Walk {
  std::vector<Step> steps;
  Result<Mapping> mapping = fail(Why::not_present, nullptr);
};

struct PagingRules {
  int levels = 4;
  // RAM ends here: a frame beyond it in an entry that is not valid has been tampered with on purpose.
  // Since the 2018 L1TF fixes Windows sets a high bit in such entries (MiState.Hardware.InvalidPteMask)
  // unless their SwizzleBit (bit 4) is set; a frame number that is too large is that bit. 0: unknown.
  PhysAddr end_of_ram{};
};

// One page-table tree. Lends out bytes by virtual address. Keeps a small translation cache, so an object of
// this class is for one thread at a time.
class AddressSpace final : public Source<VirtAddr> {
 public:
  AddressSpace(const Source<PhysAddr>& physical, PhysAddr dtb, PagingRules rules);

  PhysAddr dtb() const { return dtb_; }
  const PagingRules& rules() const { return rules_; }

  // Errors: bad_address, not_present (level), paged_out, not_in_dump (the page or a table).
  Result<Slice> at(VirtAddr va) const override;
  Result<Mapping> translate(VirtAddr va) const;
  // The same with every table entry that was read.
  Walk walk(VirtAddr va) const;

 private:
  struct Cached {
    u64 page = ~u64{0};
    const u8* data = nullptr;
  };
  Result<Mapping> lookup(VirtAddr va, int depth, std::vector<Step>* steps) const;
  Result<Mapping> software_entry(VirtAddr va, u64 entry, u8 level, int depth) const;
  PhysAddr frame(u64 entry) const;

  const Source<PhysAddr>& physical_;
  PhysAddr dtb_;
  PagingRules rules_;
  mutable std::vector<Cached> cache_;
};

}  // namespace unhang::memory
