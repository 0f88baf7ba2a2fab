// Guest-physical pages of a QEMU migration stream.
#pragma once

#include "dump/guest_map.h"

namespace unhang::dump {

class MigrationSource final : public PageSource<PhysAddr> {
 public:
  MigrationSource(std::shared_ptr<const MigrationStream> stream, GuestMap map);

  Result<Slice> at(PhysAddr pa) const override;
  std::span<const PhysRange> ranges() const override { return ranges_; }
  std::optional<u64> file_offset(PhysAddr pa) const override;
  const File* backing() const override { return stream_->file.get(); }
  u64 contiguous(PhysAddr pa) const override;
  void will_read(PhysRange range) const override;
  std::vector<PhysRange> populated() const override;

 private:
  struct Place {
    bool there = false;
    u64 offset = 0;  // of the page's bytes in the file; 0: a page of zeros
  };
  Place find(PhysAddr pa) const;
  void list(const MapPiece& piece, bool with_zeros, std::vector<PhysRange>& out) const;

  std::shared_ptr<const MigrationStream> stream_;
  GuestMap map_;
  std::vector<PhysRange> ranges_;
};

}  // namespace unhang::dump
