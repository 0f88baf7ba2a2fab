// A real triage dump of Windows 10 19041 (2021, from a public bug report): 1,831 blocks of kernel memory of a
// machine that was starting its devices. What is asserted was read by hand from the file's blocks.
#include "app/command.h"
#include "real/real_data.h"

namespace unhang::real {
namespace {

const std::filesystem::path kDump = data() / "real" / "triage-19041.804-x64.dmp";

class Triage : public testing::Test {
 protected:
  void SetUp() override {
    UNHANG_NEEDS(kDump);
    const auto file = File::open(kDump.string());
    ASSERT_TRUE(file.has_value());
    session_ = open(*file, {(data() / "symbols").string()});
    ASSERT_TRUE(session_);
  }

  Json run(const std::string& line) {
    const auto node = app::run_line(*session_, line);
    EXPECT_TRUE(node.has_value()) << line << ": " << (node ? "" : text(node.error()));
    return node ? Json::parse(report::to_json(*node)) : Json();
  }

  std::unique_ptr<app::Session> session_;
};

TEST_F(Triage, SymbolsAreFoundByTheListsThatTheDumpStates) {
  const Json target = analyse(*session_)["target"];
  EXPECT_EQ(target["build"], 19041);
  EXPECT_EQ(target["kernel_base"], "0xfffff8047ba00000");
  EXPECT_EQ(target["pdb"]["guid"], "5278AFF86C341677D7D7835C85B7B844");
  EXPECT_EQ(target["layout_confidence"], "exact");
}

TEST_F(Triage, AllModulesOfItsList) {
  const Json modules = run("lm");
  EXPECT_EQ(modules["rows"].size(), 151u) << modules.dump().substr(0, 500);
}

TEST_F(Triage, AllProcessorsWithTheirThreads) {
  const Json running = run("!running -i");
  EXPECT_EQ(running["cpus"].size(), 16u) << running.dump().substr(0, 500);
}

// The device tree is being enumerated: PiEngineLock is held, and a second thread of System waits for it.
TEST_F(Triage, TheHeldLocks) {
  const Json locks = run("!locks");
  ASSERT_EQ(locks["resources"].size(), 2u);
  const Json& engine = locks["resources"][1];
  EXPECT_EQ(engine["name"], "nt!PiEngineLock");
  EXPECT_EQ(engine["address"], "0xfffff8047c644bc0");
  EXPECT_EQ(engine["owners"][0]["thread"], "0xffffc08bde9e1640");
  EXPECT_EQ(engine["exclusive_waiters"][0], "0xffffc08bde0c7040");
  EXPECT_EQ(locks["resources"][0]["name"], "nt!IopDeviceTreeLock");
}

TEST_F(Triage, TheWaiterWaitsForTheOwnerThatRuns) {
  const Json report = analyse(*session_);
  bool edge = false;
  for (const Json& e : report["wait_graph"]["edges"])
    edge |= e["from"] == "0xffffc08bde0c7040" && e["to"] == "0xffffc08bde9e1640" &&
            e["via"]["address"] == "0xfffff8047c644bc0";
  EXPECT_TRUE(edge) << report["wait_graph"];
  // How long it waits cannot be known without KUSER_SHARED_DATA: no verdict is invented.
  EXPECT_EQ(report["verdict"]["class"], "unknown");
}

TEST_F(Triage, StackWithoutAnyCodeIsMarkedAsAGuess) {
  const Json stack = run("k");
  ASSERT_GE(stack["stack"].size(), 5u);
  EXPECT_EQ(stack["stack"][0]["trust"], "exact");
  for (size_t i = 1; i < stack["stack"].size(); i++) {
    const Json& trust = stack["stack"][i]["trust"];
    EXPECT_TRUE(trust == "guess" || trust == "heuristic") << stack["stack"][i];
  }
  bool worker = false;
  for (const Json& f : stack["stack"]) worker |= f["symbol"] == "nt!ExpWorkerThread+0x105";
  EXPECT_TRUE(worker);
}

}  // namespace
}  // namespace unhang::real
