// What a crash dump says of why it was taken.
#include "nt/crash_parts.h"

#include <gtest/gtest.h>

#include "nt/target.h"
#include "synth/machine.h"

namespace unhang {
namespace {

class BugCheck : public testing::Test {
 protected:
  // The code and its parameters in the header, which debuggers show first, and where the kernel keeps them,
  // which `.bugcheck` and extensions read.
  void expect(const std::array<u64, 5>& wanted) {
    const auto target = nt::Target::open(m_.dump(), {});
    ASSERT_TRUE(target.has_value()) << text(target.error());
    const auto parts = nt::crash_parts(**target, std::nullopt);
    ASSERT_TRUE(parts.has_value()) << text(parts.error());
    const dump::CrashHeader& h = parts->header;
    EXPECT_EQ(h.bug_check_code, wanted[0]);
    EXPECT_TRUE(std::equal(wanted.begin() + 1, wanted.end(), h.bug_check_parameters.begin()));
    const memory::Walk walk = (*target)->paging()->walk(data_);
    ASSERT_TRUE(walk.mapping.has_value());
    const PhysAddr at = walk.mapping->pa;
    const auto patch = std::find_if(parts->patches.begin(), parts->patches.end(),
                                    [&](const dump::Patch& p) { return p.at == at; });
    ASSERT_NE(patch, parts->patches.end());
    ASSERT_EQ(patch->bytes.size(), sizeof wanted);
    EXPECT_EQ(std::memcmp(patch->bytes.data(), wanted.data(), sizeof wanted), 0);
  }

  synth::Machine m_{synth::MachineOptions{}};
  VirtAddr data_ = m_.symbol("KiBugCheckData");
};

TEST_F(BugCheck, OfAMachineThatRunsOn) {
  expect({0x161, 0, 0, 0, 0});  // LIVE_SYSTEM_DUMP
}

TEST_F(BugCheck, ThatWindowsKeepsInMemory) {
  const std::array<u64, 5> power{0x9f, 3, 0xffffa50c3a204040, 0xfffff80312345678, 0xffffa50c3a225a40};
  for (size_t i = 0; i < power.size(); i++) m_.memory().put(data_ + i * 8, power[i]);
  expect(power);
}

TEST_F(BugCheck, ThatWindowsToldTheHypervisor) {
  m_.registers(1).hyperv_crash = {0x133, 1, 0x1e00, 0, 0};
  expect({0x133, 1, 0x1e00, 0, 0});
}

}  // namespace
}  // namespace unhang
