// Standing property (DESIGN section 8): two targets at once. Nothing about a target is kept in the process,
// so what one says cannot depend on which others are open, were open, or are being read at the same time.
#include <gtest/gtest.h>

#include <thread>

#include "synth/scene.h"
#include "synth/session.h"

namespace unhang {
namespace {

struct Case {
  const char* build;
  synth::Scene (*make)(synth::MachineOptions);
};
// Builds whose structures differ in nearly every offset.
constexpr Case kCases[] = {{"6.1.7601.24540", synth::busy_owner},
                           {"10.0.19041.804", synth::mixed_deadlock},
                           {"10.0.22621.382", synth::io_stall},
                           {"6.3.9600.19913", synth::deadlock},
                           {"10.0.26100", synth::cpu_spin}};

class TargetsTest : public testing::Test {
 protected:
  TargetsTest() {
    for (const Case& c : kCases) scenes_.push_back(c.make({.build = c.build}));
  }
  std::unique_ptr<app::Session> open(size_t i) { return synth::open_session(scenes_[i].machine->dump()); }
  std::string alone(size_t i) {
    const auto session = open(i);
    return session ? synth::report(*session) : "";
  }
  std::vector<synth::Scene> scenes_;
};

// Which line differs first: a report has thousands.
void expect_same(const std::string& a, const std::string& b) {
  if (a == b) return;
  std::istringstream x(a), y(b);
  std::string p, q;
  for (int line = 1; std::getline(x, p) && std::getline(y, q); line++)
    if (p != q) {
      ADD_FAILURE() << "line " << line << ":\n" << p << "\n" << q;
      return;
    }
  ADD_FAILURE() << "one report is longer: " << a.size() << " and " << b.size() << " bytes";
}

TEST_F(TargetsTest, ReportsHaveTheVerdicts) {
  for (size_t i = 0; i < scenes_.size(); i++) {
    const auto json = nlohmann::json::parse(alone(i));
    EXPECT_EQ(json["verdict"]["class"], scenes_[i].verdict) << kCases[i].build;
  }
}

TEST_F(TargetsTest, TwiceTheSame) {
  for (size_t i = 0; i < scenes_.size(); i++) {
    SCOPED_TRACE(kCases[i].build);
    const auto session = open(i);
    ASSERT_TRUE(session);
    const std::string first = synth::report(*session);
    expect_same(first, synth::report(*session));  // the same target again
    expect_same(first, alone(i));                 // the same dump opened again
  }
}

TEST_F(TargetsTest, OpenAtOnce) {
  std::vector<std::string> expected;
  for (size_t i = 0; i < scenes_.size(); i++) expected.push_back(alone(i));
  std::vector<std::unique_ptr<app::Session>> open_ones;
  for (size_t i = 0; i < scenes_.size(); i++) open_ones.push_back(open(i));
  // Backwards, so that each is read after another was opened and before another was read.
  for (size_t i = scenes_.size(); i-- > 0;) {
    SCOPED_TRACE(kCases[i].build);
    ASSERT_TRUE(open_ones[i]);
    expect_same(expected[i], synth::report(*open_ones[i]));
  }
  for (size_t i = 0; i < scenes_.size(); i++) expect_same(expected[i], synth::report(*open_ones[i]));
}

TEST_F(TargetsTest, ClosingOneLeavesTheOther) {
  const std::string expected = alone(1);
  auto first = open(0), second = open(1);
  ASSERT_TRUE(first && second);
  (void)synth::report(*first);
  first.reset();
  expect_same(expected, synth::report(*second));
}

// A target is for one thread at a time; two targets are for two.
TEST_F(TargetsTest, ReadAtTheSameTime) {
  std::vector<std::string> expected, got(scenes_.size());
  std::vector<std::unique_ptr<app::Session>> open_ones;
  for (size_t i = 0; i < scenes_.size(); i++) {
    expected.push_back(alone(i));
    open_ones.push_back(open(i));
    ASSERT_TRUE(open_ones.back());
  }
  std::vector<std::thread> threads;
  for (size_t i = 0; i < scenes_.size(); i++)
    threads.emplace_back([&, i] { got[i] = synth::report(*open_ones[i]); });
  for (std::thread& t : threads) t.join();
  for (size_t i = 0; i < scenes_.size(); i++) {
    SCOPED_TRACE(kCases[i].build);
    expect_same(expected[i], got[i]);
  }
}

}  // namespace
}  // namespace unhang
