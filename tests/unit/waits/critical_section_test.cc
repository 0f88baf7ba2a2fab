// Critical sections where they are hard to see: of 32-bit code, on a page that is not in the dump, with an
// owner that is not.
#include <algorithm>

#include "diagnose/diagnose.h"
#include "synth/damage.h"
#include "synth/session.h"
#include "synth/user_side.h"

namespace unhang {
namespace {

using synth::UserSide;

constexpr u8 kUserRequest = 6;
constexpr u64 kSection = 0x300000, kPagedOut = 0x3f0000;

class CriticalSectionTest : public testing::Test {
 protected:
  // A thread that waits in a system call, called from rip with the section's address on its stack.
  void wait(u64 section, u64 rip, bool wow64) {
    user_.emplace(machine_, process_, wow64);
    machine_.block(waiter_, kUserRequest, {machine_.add_event()}, 4000,
                   {"nt!KeWaitForSingleObject", "nt!NtWaitForSingleObject", "nt!KiSystemServiceCopyEnd"});
    user_->give_stacks(waiter_);
    const u64 sp = wow64 ? UserSide::kStackBase32 - 0x800 : UserSide::kStackBase - 0x200;
    if (wow64)
      user_->put<u32>(sp + 8, static_cast<u32>(section));
    else
      user_->put<u64>(sp + 8, section);
    user_->enter_from(waiter_, rip, sp, 0, wow64 ? 0x23 : 0x33);
    machine_.block(owner_, kUserRequest, {machine_.add_event()}, 5000, {"nt!KiSystemServiceCopyEnd"});
  }
  // The same inside of the function that waits for critical sections.
  void wait_in_enter(u64 section) {
    synth::ImageBuilder ntdll("ntdll.dll", {});
    const synth::Function enter = ntdll.add_function("RtlEnterCriticalSection");
    constexpr VirtAddr kNtdll(0x7ffe'00000000);
    wait(section, (kNtdll + enter.begin + 0x10).value(), false);
    user_->add_module("ntdll.dll", kNtdll, ntdll.build());
  }
  diagnose::Diagnosis diagnosis(dump::DumpFile dump) {
    session_ = synth::open_session(std::move(dump));
    return session_ ? diagnose::diagnose(session_->world(), {}) : diagnose::Diagnosis{};
  }
  diagnose::Diagnosis diagnosis() { return diagnosis(machine_.dump()); }

  synth::Machine machine_{synth::MachineOptions{}};
  VirtAddr process_ = machine_.add_process("app.exe", 4000);
  VirtAddr waiter_ = machine_.add_thread(process_, 4004), owner_ = machine_.add_thread(process_, 4008);
  std::optional<UserSide> user_;
  std::unique_ptr<app::Session> session_;
};

TEST_F(CriticalSectionTest, Of32BitCode) {
  wait(kSection, 0x77a61000, true);
  user_->map(VirtAddr(kSection), kPageSize);
  user_->put<u32>(kSection, ~u32{0});    // no DebugInfo
  user_->put<i32>(kSection + 4, -6);     // locked, one waits
  user_->put<i32>(kSection + 8, 1);      // RecursionCount
  user_->put<u32>(kSection + 12, 4008);  // OwningThread
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "unknown") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_EQ(d.findings[0].culprit.thread, owner_);
  ASSERT_FALSE(d.findings[0].chain.empty());
  EXPECT_EQ(d.findings[0].chain[0].object, VirtAddr(kSection));
}

// The function says what it waits for; the section may be what hangs.
TEST_F(CriticalSectionTest, OnAPageThatIsNotThereIsNoHealth) {
  wait_in_enter(kPagedOut);
  const diagnose::Diagnosis d = diagnosis();
  EXPECT_STREQ(d.verdict.cls, "unknown") << d.verdict.summary;
  ASSERT_FALSE(d.findings.empty());
  EXPECT_NE(d.verdict.summary.find("critical section"), std::string::npos) << d.verdict.summary;
}

// What the dump does not have is not gone.
TEST_F(CriticalSectionTest, WhoseOwnerIsNotInTheDumpIsNotOrphaned) {
  machine_.alloc(2 * kPageSize);  // the owner's page is nobody else's
  const VirtAddr owner = machine_.add_thread(process_, 4012);
  machine_.alloc(2 * kPageSize);
  wait_in_enter(kSection);
  user_->map(VirtAddr(kSection), kPageSize);
  user_->put<u64>(kSection, ~u64{0});
  user_->put<i32>(kSection + 8, -6);
  user_->put<i32>(kSection + 12, 1);
  user_->put<u64>(kSection + 16, 4012);
  const Pfn page((machine_.memory().pte(owner) & 0xf'ffff'f000) >> 12);
  const auto orphaned = [](const diagnose::Diagnosis& d) {
    return std::ranges::any_of(d.findings,
                               [](const auto& f) { return std::string_view(f.verdict) == "orphaned-lock"; });
  };
  EXPECT_FALSE(orphaned(diagnosis(synth::without_page(machine_, page))));
  machine_.terminate_and_unlist(owner);
  EXPECT_TRUE(orphaned(diagnosis())) << "on no list, and the list is whole";
}

}  // namespace
}  // namespace unhang
