// Every situation on every build with a known layout, with the kernel's symbols and without them: the same
// verdict and the same culprit.
#include "synth/scene.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "diagnose/diagnose.h"
#include "symbols/builtin.h"

namespace unhang {
namespace {

using synth::Scene;

class SceneTest : public testing::TestWithParam<std::tuple<std::string, synth::NamedScene, bool>> {
 protected:
  void SetUp() override { directory_ = testing::TempDir() + "unhang-scene-" + std::to_string(getpid()); }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
};

TEST_P(SceneTest, VerdictAndCulprit) {
  const auto& [build, situation, with_symbols] = GetParam();
  const bool ten = build.starts_with("10.");
  // Encoded, as real kernels since Windows 8 keep it: undone by symbols, or without them by what is known of
  // it.
  Scene scene = situation.make({.build = build, .encode_kdbg = ten});
  nt::TargetOptions options;
  if (with_symbols) {
    const std::vector<u8> bytes = scene.machine->symbols();
    std::filesystem::create_directories(directory_);
    const std::string path = directory_ + "/kernel.layout";
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    options.symbol_paths = {path};
  }
  auto target = nt::Target::open(scene.machine->dump(), options);
  ASSERT_TRUE(target.has_value()) << text(target.error());
  EXPECT_EQ((*target)->layouts().exact() != nullptr, with_symbols);
  if (!with_symbols) {
    EXPECT_EQ((*target)->layouts().best_confidence(), Confidence::derived) << (*target)->layout_source();
  }
  waits::World world(**target);
  const diagnose::Diagnosis d = diagnose::diagnose(world, {});
  EXPECT_STREQ(d.verdict.cls, scene.verdict.c_str()) << d.verdict.summary;
  if (!scene.culprit.is_null()) {
    ASSERT_TRUE(d.verdict.finding.has_value());
    EXPECT_EQ(d.findings[*d.verdict.finding].culprit.thread, scene.culprit) << d.verdict.summary;
  }
  for (const Gap& g : world.gaps)
    if (!g.minor) ADD_FAILURE() << "gap: " << g.what << " " << g.where << " " << g.why;
}

std::string test_name(const testing::TestParamInfo<SceneTest::ParamType>& info) {
  std::string s = std::get<0>(info.param) + "_" + std::get<1>(info.param).name +
                  (std::get<2>(info.param) ? "_symbols" : "_plain");
  for (char& c : s)
    if (c == '.') c = '_';
  return s;
}

INSTANTIATE_TEST_SUITE_P(Builds, SceneTest,
                         testing::Combine(testing::ValuesIn(synth::build_names()),
                                          testing::ValuesIn(synth::kScenes), testing::Bool()),
                         test_name);

}  // namespace
}  // namespace unhang
