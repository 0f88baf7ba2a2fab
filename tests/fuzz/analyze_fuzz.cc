// The whole analysis on a damaged machine: the input is a list of words to write over the sample's memory, by
// page and offset. Run it with samples/hang.elf unpacked in the file that UNHANG_SAMPLE names.
#include <cstdlib>
#include <cstring>

#include "diagnose/diagnose.h"
#include "dump/dump_file.h"
#include "nt/target.h"

namespace {

using namespace unhang;

// The sample's memory with a few words changed.
class Damaged final : public dump::PageSource<PhysAddr> {
 public:
  explicit Damaged(const dump::PageSource<PhysAddr>& whole) : whole_(whole) {}

  void write(PhysAddr at, u64 value) {
    const auto page = page_of(at);
    if (page != nullptr) std::memcpy(page->data() + at.page_offset(), &value, sizeof value);
  }
  void remove(PhysAddr at) { pages_[at.page().value()] = nullptr; }

  Result<Slice> at(PhysAddr pa) const override {
    const auto it = pages_.find(pa.page().value());
    if (it == pages_.end()) return whole_.at(pa);
    if (it->second == nullptr) return fail(Error{.why = Why::not_in_dump, .pa = pa});
    return Slice{it->second->data() + pa.page_offset(), pa.left_in_page(), it->second};
  }
  std::span<const dump::PhysRange> ranges() const override { return whole_.ranges(); }
  std::optional<u64> file_offset(PhysAddr) const override { return std::nullopt; }

 private:
  std::shared_ptr<std::vector<u8>> page_of(PhysAddr at) {
    auto& page = pages_[at.page().value()];
    if (page == nullptr) {
      const auto slice = whole_.at(at.page());
      if (!slice || slice->size < kPageSize) return nullptr;
      page = std::make_shared<std::vector<u8>>(slice->data, slice->data + kPageSize);
    }
    return page;
  }

  const dump::PageSource<PhysAddr>& whole_;
  std::map<u64, std::shared_ptr<std::vector<u8>>> pages_;
};

const dump::DumpFile& sample() {
  static const dump::DumpFile dump = [] {
    const char* path = std::getenv("UNHANG_SAMPLE");
    auto opened = dump::open_dump(path == nullptr ? "hang.elf" : path);
    if (!opened) std::abort();
    return std::move(*opened);
  }();
  return dump;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const dump::DumpFile& whole = sample();
  const auto range = whole.physical->ranges().front();
  auto damaged = std::make_unique<Damaged>(*whole.physical);
  const ByteView input(data, size);
  constexpr u64 kRecord = 13;  // u32 word number, u8 what, u64 value
  for (u64 at = 0; at + kRecord <= size && at < 64 * kRecord; at += kRecord) {
    const PhysAddr pa = range.start + u64{input.at<u32>(at)} * 8 % range.size;
    const u64 value = input.at<u64>(at + 5);
    switch (input.at<u8>(at + 4) % 4) {
      case 0:
        damaged->write(pa, value);
        break;
      case 1:
        damaged->remove(pa);
        break;
      // Another word of the machine: pointers that lead somewhere.
      case 2:
        if (const auto from = whole.physical->at(range.start + value * 8 % range.size);
            from && from->size >= 8) {
          u64 word = 0;
          std::memcpy(&word, from->data, 8);
          damaged->write(pa, word);
        }
        break;
      default:
        damaged->write(pa, 0);
    }
  }
  dump::DumpFile d;
  d.file = whole.file;
  d.format = whole.format;
  d.cpus = whole.cpus;
  d.physical = std::move(damaged);
  const auto target = nt::Target::open(std::move(d), {});
  if (!target) return 0;
  waits::World world(**target);
  diagnose::Options options;
  options.scan.threads = 1;
  const diagnose::Diagnosis diagnosis = diagnose::diagnose(world, options);
  if (diagnosis.verdict.summary.empty()) std::abort();
  return 0;
}
