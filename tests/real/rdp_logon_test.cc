// The motivating hang against its truth: everything that its author says is in the dump, field by field.
#include <map>
#include <set>

#include "base/format.h"
#include "nt/irp_scan.h"
#include "real/real_data.h"

namespace unhang::real {
namespace {

const std::filesystem::path kCase = data() / "cases" / "rdp-logon-2008r2";

class RdpLogon : public testing::TestWithParam<bool> {
 protected:
  // Opened once for each of the two ways; the report of a thread is looked up by its address.
  struct Opened {
    std::unique_ptr<app::Session> session;
    Json report;
    std::map<std::string, Json> threads;
  };

  void SetUp() override {
    UNHANG_NEEDS(kCase);
    std::ifstream(kCase / "truth.json") >> truth_;
    static std::map<bool, Opened> all;
    Opened& o = all[GetParam()];
    if (!o.session) {
      std::vector<std::string> symbols;
      if (GetParam()) symbols = {(data() / "symbols").string()};
      o.session = open(File::from_bytes(unpacked(kCase / "dump.elf.xz"), "dump.elf"), symbols);
      ASSERT_TRUE(o.session);
      o.report = analyse(*o.session);
      for (const Json& t : o.report["threads"]) o.threads[t["address"]] = t;
    }
    opened_ = &o;
  }

  const Json& report() const { return opened_->report; }
  const Json& thread(const std::string& address) const { return opened_->threads.at(address); }
  std::string address_of(int tid) const {
    for (const Json& t : truth_["threads"])
      if (t["tid"] == tid && tid != 0) return t["ethread"];
    return {};
  }

  Json truth_;
  Opened* opened_ = nullptr;
};

bool ends_with(const Json& s, const Json& tail) {
  return s.is_string() && s.get<std::string>().ends_with(tail.get<std::string>());
}

TEST_P(RdpLogon, Target) {
  const Json& t = report()["target"];
  EXPECT_EQ(t["kernel_base"], truth_["kernel_base"]);
  EXPECT_EQ(t["build"], truth_["build"]);
  EXPECT_EQ(t["build_lab"], truth_["lab"]);
  EXPECT_EQ(t["dtb"], truth_["dtb"]);
  EXPECT_EQ(t["pdb"]["guid"], truth_["pdb"]["guid"]);
  EXPECT_EQ(t["pdb"]["age"], truth_["pdb"]["age"]);
  EXPECT_EQ(t["layout_confidence"], GetParam() ? "exact" : "derived");
}

TEST_P(RdpLogon, Cpus) {
  ASSERT_EQ(report()["cpus"].size(), truth_["cpus"].size());
  for (size_t i = 0; i < truth_["cpus"].size(); i++) {
    const Json &want = truth_["cpus"][i], &got = report()["cpus"][i];
    EXPECT_EQ(got["number"], want["number"]);
    EXPECT_EQ(got["kpcr"], want["kpcr"]);
    EXPECT_EQ(got["rip"], want["rip"]);
    EXPECT_EQ(got["pid"], want["pid"]);
    EXPECT_EQ(got["tid"], want["tid"]);
    EXPECT_EQ(got["mode"], want["idle"] == true ? Json("idle") : want["mode"]);
  }
}

TEST_P(RdpLogon, Modules) {
  std::map<std::string, Json> got;
  for (const Json& m : report()["modules"]) got[m["base"]] = m;
  EXPECT_EQ(got.size(), truth_["modules"].size());
  for (const Json& m : truth_["modules"]) {
    ASSERT_TRUE(got.contains(m["base"])) << m;
    EXPECT_EQ(fmt::format("0x{:x}", got[m["base"]]["size"].get<u64>()), m["size"].get<std::string>()) << m;
    EXPECT_EQ(got[m["base"]]["path"], m["path"]);
  }
}

TEST_P(RdpLogon, Processes) {
  std::map<std::string, Json> got;
  for (const Json& p : report()["processes"]) got[p["address"]] = p;
  EXPECT_EQ(got.size(), truth_["processes"].size());
  for (const Json& want : truth_["processes"]) {
    ASSERT_TRUE(got.contains(want["eprocess"])) << want;
    const Json& p = got[want["eprocess"]];
    EXPECT_EQ(p["name"], want["name"]);
    EXPECT_EQ(p["pid"], want["pid"]);
    EXPECT_EQ(p["dtb"], want["dtb"]);
    EXPECT_EQ(p["threads"], want["threads"]) << want;
    EXPECT_EQ(p["handles"], want["handles"]) << want;
    if (!want["session"].is_null()) {
      EXPECT_EQ(p["session"], want["session"]) << want;
    }
    if (!want["path"].is_null()) {
      EXPECT_EQ(p["path"], want["path"]) << want;
    }
  }
}

TEST_P(RdpLogon, Threads) {
  EXPECT_EQ(report()["threads"].size(), truth_["threads"].size());
  for (const Json& want : truth_["threads"]) {
    const Json& t = thread(want["ethread"]);
    EXPECT_EQ(t["pid"], want["pid"]) << want["ethread"];
    EXPECT_EQ(t["tid"], want["tid"]) << want["ethread"];
    EXPECT_EQ(t["process"], want["process"]);
    EXPECT_EQ(t["state"], want["state_name"]) << want["ethread"];
    if (!want.contains("wait_reason")) continue;
    EXPECT_EQ(t["wait_reason"], want["wait_reason"]) << want["ethread"];
    EXPECT_EQ(t["ticks"], want["ticks_waited"]) << want["ethread"];
    EXPECT_EQ(t["waited_ms"], want["ms_waited"]) << want["ethread"];
    EXPECT_EQ(t["wait_mode"], want["wait_mode"].get<std::string>() + "Mode");
    ASSERT_FALSE(t["waits_on"].empty()) << want["ethread"];
    bool on = false;
    for (const Json& w : t["waits_on"]) on |= w["object"] == want["wait_object"];
    EXPECT_TRUE(on) << want["ethread"] << " waits on " << want["wait_object"] << ": " << t["waits_on"];
  }
}

// Without symbols the names of functions inside nt come from exports, so only addresses are compared.
TEST_P(RdpLogon, StacksFrameByFrame) {
  size_t frames = 0;
  for (const Json& want : truth_["threads"]) {
    const Json& got = thread(want["ethread"])["stack"];
    ASSERT_GE(got.size(), want["stack"].size()) << want["ethread"];
    for (size_t i = 0; i < want["stack"].size(); i++, frames++) {
      const Json &w = want["stack"][i], &g = got[i];
      EXPECT_EQ(g["ip"], w["rip"]) << want["ethread"] << " frame " << i;
      EXPECT_EQ(g["sp"], w["sp"]) << want["ethread"] << " frame " << i;
      EXPECT_EQ(g["trust"], "exact") << want["ethread"] << " frame " << i;
      const std::string module = w["module"].get<std::string>();
      std::string name;
      if (!w.contains("symbol"))
        name = fmt::format("{}+{}", module.substr(0, module.rfind('.')), w["rva"].get<std::string>());
      else if (GetParam())
        name =
            fmt::format("{}!{}+{}", module, w["symbol"].get<std::string>(), w["offset"].get<std::string>());
      if (!name.empty()) {
        EXPECT_EQ(g["symbol"], name) << want["ethread"] << " frame " << i;
      }
    }
    // From kernel to user mode, where the user stack is in memory.
    if (want.contains("user_rip") && got.size() > want["stack"].size()) {
      EXPECT_EQ(got[want["stack"].size()]["ip"], want["user_rip"]) << want["ethread"];
    }
  }
  EXPECT_EQ(frames, 916u);
}

TEST_P(RdpLogon, Locks) {
  ASSERT_EQ(report()["locks"].size(), truth_["locks"].size());
  for (const Json& want : truth_["locks"]) {
    const Json* lock = nullptr;
    for (const Json& l : report()["locks"])
      if (l["address"] == want["address"]) lock = &l;
    ASSERT_NE(lock, nullptr) << want["address"];
    EXPECT_EQ((*lock)["kind"], want["kind"]);
    EXPECT_EQ((*lock)["contention"], want["contention"]);
    ASSERT_EQ((*lock)["owners"].size(), want["owners"].size());
    EXPECT_EQ((*lock)["owners"][0]["thread"], want["owners"][0]["ethread"]);
    EXPECT_EQ((*lock)["mode"], want["owners"][0]["mode"]);
    ASSERT_EQ((*lock)["protects"].size(), want["files"].size());
    EXPECT_TRUE(ends_with((*lock)["protects"][0], want["files"][0])) << (*lock)["protects"];
    std::set<std::pair<std::string, std::string>> waiters, wanted;
    for (const Json& w : (*lock)["waiters"]) waiters.emplace(w["thread"], w["access"]);
    for (const Json& tid : want["exclusive_waiters"]) wanted.emplace(address_of(tid), "exclusive");
    for (const Json& tid : want["shared_waiters"]) wanted.emplace(address_of(tid), "shared");
    EXPECT_EQ(waiters, wanted) << want["address"];
  }
}

TEST_P(RdpLogon, Irps) {
  std::map<std::string, Json> got;
  for (const Json& i : report()["irps"]) got[i["address"]] = i;
  EXPECT_EQ(got.size(), truth_["irps"].size());
  for (const Json& want : truth_["irps"]) {
    ASSERT_TRUE(got.contains(want["address"])) << want["address"];
    const Json& irp = got[want["address"]];
    EXPECT_EQ(irp["thread"], address_of(want["thread"]));
    EXPECT_EQ(irp["stack_count"], want["stack_count"]);
    EXPECT_EQ(irp["current_location"], want["current"]);
    EXPECT_EQ(irp["major"], want["major"]);
    EXPECT_EQ(irp["driver"], want["current_driver"]);
    if (!want["file"].is_null()) {
      EXPECT_TRUE(ends_with(irp["file"], want["file"])) << irp["file"] << " " << want["file"];
      EXPECT_EQ(irp["file_object"], want["file_object"]);
    }
    for (const Json& location : want["locations"]) {
      const Json& g = irp["stack"][location["index"].get<size_t>() - 1];
      EXPECT_EQ(g["major"], location["major"]);
      EXPECT_EQ(g["minor_code"], location["minor"]);
      EXPECT_EQ(g["device"], location["device"]);
      EXPECT_EQ(g["driver"], location["driver"]);
      EXPECT_EQ(g["completion"], location["completion"]);
    }
  }
}

// The same requests without the threads' lists.
TEST_P(RdpLogon, IrpsByTheirShape) {
  std::set<std::string> want, got;
  for (const Json& i : truth_["irps"]) want.insert(i["address"]);
  for (const VirtAddr va : nt::find_irps(opened_->session->target(), {}).irps)
    got.insert(fmt::format("{:#x}", va.value()));
  EXPECT_EQ(got, want);
}

TEST_P(RdpLogon, Verdict) {
  const Json& v = report()["verdict"];
  ASSERT_EQ(v["class"], "busy-owner") << v;
  EXPECT_EQ(v["confidence"], GetParam() ? "exact" : "derived");
  const Json &finding = report()["findings"][v["finding"].get<size_t>()], &want = truth_["culprit"];
  const Json& culprit = finding["culprit"];
  EXPECT_EQ(culprit["pid"], want["pid"]);
  EXPECT_EQ(culprit["tid"], want["tid"]);
  EXPECT_EQ(culprit["process"], want["process"]);
  EXPECT_EQ(culprit["cpu"], want["cpu"]);
  EXPECT_TRUE(ends_with(culprit["file"], want["file"])) << culprit;
  EXPECT_TRUE(ends_with(culprit["directory"], want["directory"])) << culprit;
  EXPECT_EQ(report()["wait_graph"]["cycles"].size(), 0u);
  // The chain: the queue at \Windows, LogonUI, \Windows\Temp, the one that runs.
  const Json& chain = truth_["chains"][0];
  ASSERT_EQ(finding["chain"].size(), 2u);
  EXPECT_EQ(finding["chain"][0]["object"], chain[0]["lock"]);
  EXPECT_EQ(finding["chain"][0]["owner"]["tid"], chain[1]["owner"]);
  EXPECT_EQ(finding["chain"][1]["object"], chain[1]["waits_for"]);
  EXPECT_EQ(finding["chain"][1]["owner"]["tid"], chain[2]["owner"]);
}

TEST_P(RdpLogon, TheDirectory) {
  const Json& finding = report()["findings"][report()["verdict"]["finding"].get<size_t>()];
  const Json& directory = finding["directory"];
  EXPECT_EQ(directory["names"], truth_["ntfs"]["indexed_names"]) << directory;
  EXPECT_EQ(directory["index_buffers"], truth_["ntfs"]["index_buffers"]);
  EXPECT_EQ(directory["file_records"], truth_["ntfs"]["file_records"]);
  EXPECT_EQ(directory["patterns"][0]["pattern"], "sess_*");
  EXPECT_EQ(directory["held_by"][0]["process"], "php-cgi.exe");
  EXPECT_EQ(directory["held_by"][0]["handles"], truth_["open_sess_handles"]);
}

INSTANTIATE_TEST_SUITE_P(Ways, RdpLogon, testing::Bool(),
                         [](const auto& way) { return way.param ? "Symbols" : "NoSymbols"; });

}  // namespace
}  // namespace unhang::real
