// The JSON contract (DESIGN section 6, docs/report-schema.md): whatever the situation, every key is there and
// has its type, addresses are addresses, words come from their closed sets, and references lead somewhere.
#include <gtest/gtest.h>

#include <set>

#include "base/format.h"
#include "symbols/builtin.h"
#include "synth/damage.h"
#include "synth/scene.h"
#include "synth/session.h"

namespace unhang {
namespace {

using Json = nlohmann::json;
using Words = std::set<std::string>;

const Words kConfidence{"exact", "derived", "heuristic", "guess"};
const Words kVerdicts{"deadlock",          "busy-owner",        "io-stall",        "cpu-spin",
                      "worker-exhaustion", "memory-exhaustion", "remote-wait",     "orphaned-lock",
                      "no-hang",           "unknown",           "suspended-owner", "starved-vm"};
const Words kStates{
    "Initialized", "Ready",      "Running",       "Standby",          "Terminated",
    "Waiting",     "Transition", "DeferredReady", "GateWaitObsolete", "WaitingForProcessInSwap"};

bool is_address_text(const std::string& s) {
  return s.size() > 2 && s.size() <= 18 && s.starts_with("0x") &&
         s.find_first_not_of("0123456789abcdef", 2) == s.npos;
}

// place: text, or an address as text.
enum class Is { text, address, place, number, boolean, list, map };

class Checker {
 public:
  // whole: nothing is missing in the dump, so every thread that is named is in the list of threads.
  Checker(const Json& report, bool whole) : report_(report), whole_(whole) {}

  void all() {
    EXPECT_EQ(report_.value("schema", ""), "unhang/1");
    for (const auto& t : report_["threads"]) threads_.insert(t["address"].get<std::string>());
    for (const auto& i : report_["irps"]) irps_.insert(i["address"].get<std::string>());
    head();
    processes();
    threads();
    cpus();
    locks();
    irps();
    graph();
    findings();
    verdict();
    for (const auto& m : list("", report_, "modules"))
      fields("modules", m,
             {{"name", Is::text}, {"base", Is::address}, {"size", Is::number}, {"symbols", Is::text}});
    for (const auto& g : list("", report_, "gaps"))
      fields("gaps", g, {{"what", Is::text, true}, {"where", Is::place}, {"why", Is::text, true}});
    all_addresses("", report_);
  }

 private:
  struct Field {
    const char* key;
    Is is;
    bool never_null = false;
  };

  static bool has_type(const Json& v, Is is) {
    switch (is) {
      case Is::text:
        return v.is_string() && !is_address_text(v.get<std::string>());
      case Is::address:
        return v.is_string() && is_address_text(v.get<std::string>());
      case Is::number:
        return v.is_number_integer();
      case Is::place:
        return v.is_string();
      case Is::boolean:
        return v.is_boolean();
      case Is::list:
        return v.is_array();
      case Is::map:
        return v.is_object();
    }
    return false;
  }

  void fields(const std::string& where, const Json& map, std::initializer_list<Field> wanted) {
    ASSERT_TRUE(map.is_object()) << where;
    for (const Field& f : wanted) {
      if (!map.contains(f.key)) {
        ADD_FAILURE() << where << "." << f.key << " is not there";
        continue;
      }
      const Json& v = map[f.key];
      // Lists are empty, never null: scripts loop over them.
      if (v.is_null() && !f.never_null && f.is != Is::list) continue;
      EXPECT_TRUE(has_type(v, f.is)) << where << "." << f.key << ": " << v;
    }
  }

  const Json& list(const std::string& where, const Json& map, const char* key) {
    static const Json none = Json::array();
    if (!map.contains(key) || !map[key].is_array()) {
      ADD_FAILURE() << where << "." << key << " is no list";
      return none;
    }
    return map[key];
  }

  void one_of(const std::string& where, const Json& v, const Words& words) {
    if (!v.is_null()) {
      EXPECT_TRUE(v.is_string() && words.contains(v.get<std::string>())) << where << ": " << v;
    }
  }
  void thread_or_null(const std::string& where, const Json& v) {
    if (!v.is_null() && whole_) {
      EXPECT_TRUE(v.is_string() && threads_.contains(v.get<std::string>())) << where << ": no thread " << v;
    }
  }
  void stack(const std::string& where, const Json& map) {
    for (const auto& f : list(where, map, "stack")) {
      fields(where + ".stack", f,
             {{"ip", Is::address, true}, {"sp", Is::address, true}, {"trust", Is::text, true}});
      // A symbol, or the address where there is none.
      EXPECT_TRUE(f["symbol"].is_string()) << f;
      one_of(where + ".stack.trust", f["trust"], kConfidence);
    }
  }

  // Addresses never come as numbers: 64 bits do not survive JavaScript.
  void all_addresses(const std::string& where, const Json& v) {
    if (v.is_number_integer() && !v.is_number_float()) {
      EXPECT_LT(v.get<u64>(), u64{1} << 53) << where;
    }
    if (v.is_array() || v.is_object())
      for (const auto& [key, item] : v.items()) all_addresses(where + "." + key, item);
  }

  void head() {
    fields("dump", report_["dump"],
           {{"path", Is::text}, {"format", Is::text, true}, {"size", Is::number}, {"cpu_count", Is::number}});
    const Json& t = report_["target"];
    fields("target", t,
           {{"build", Is::number},
            {"machine", Is::text},
            {"kernel_base", Is::address, true},
            {"pdb", Is::map},
            {"layout_source", Is::text, true},
            {"system_time", Is::text},
            {"uptime_s", Is::number}});
    if (t["pdb"].is_object())
      fields("pdb", t["pdb"], {{"name", Is::text}, {"guid", Is::text}, {"age", Is::number}});
    one_of("target.layout_confidence", t["layout_confidence"], kConfidence);
    if (t["layout_checks"].is_object())
      fields("layout_checks", t["layout_checks"],
             {{"passed", Is::number, true}, {"tested", Is::number, true}});
    else
      EXPECT_EQ(t["layout_confidence"], "exact");
  }

  void processes() {
    for (const auto& p : list("", report_, "processes"))
      fields("processes", p,
             {{"address", Is::address, true},
              {"name", Is::text},
              {"pid", Is::number},
              {"parent_pid", Is::number},
              {"session", Is::number},
              {"path", Is::text},
              {"threads", Is::number},
              {"handles", Is::number}});
  }

  void threads() {
    for (const auto& t : list("", report_, "threads")) {
      fields("threads", t,
             {{"address", Is::address, true},
              {"process", Is::text},
              {"pid", Is::number},
              {"tid", Is::number},
              {"state", Is::text, true},
              {"wait_reason", Is::text},
              {"waited_ms", Is::number},
              {"waits_on", Is::list},
              {"irps", Is::list},
              {"stack", Is::list}});
      one_of("threads.state", t["state"], kStates);
      EXPECT_EQ(t["state"] == "Waiting", !t["wait_reason"].is_null()) << t["address"] << t["state"];
      for (const auto& w : t["waits_on"]) {
        fields("waits_on", w, {{"object", Is::address, true}, {"kind", Is::text}});
        one_of("waits_on.confidence", w["confidence"], kConfidence);
      }
      for (const auto& i : t["irps"]) EXPECT_TRUE(irps_.contains(i.get<std::string>())) << "no IRP " << i;
      stack("threads", t);
    }
  }

  void cpus() {
    EXPECT_EQ(report_["cpus"].size(), report_["dump"]["cpu_count"].get<size_t>());
    std::set<u64> numbers;
    for (const auto& c : list("", report_, "cpus")) {
      fields("cpus", c,
             {{"number", Is::number, true},
              {"thread", Is::address},
              {"process", Is::text},
              {"pid", Is::number},
              {"mode", Is::text},
              {"rip", Is::address},
              {"stack", Is::list}});
      one_of("cpus.mode", c["mode"], {"kernel", "user", "idle"});
      thread_or_null("cpus.thread", c["thread"]);
      EXPECT_TRUE(numbers.insert(c["number"].get<u64>()).second) << "two processors of one number";
      stack("cpus", c);
    }
  }

  void locks() {
    for (const auto& l : list("", report_, "locks")) {
      fields("locks", l,
             {{"address", Is::address, true},
              {"kind", Is::text, true},
              {"name", Is::text},
              {"protects", Is::list},
              {"mode", Is::text},
              {"contention", Is::number},
              {"owners", Is::list},
              {"waiters", Is::list}});
      one_of("locks.mode", l["mode"], {"exclusive", "shared", "free"});
      for (const auto& o : l["owners"]) {
        fields("locks.owners", o, {{"thread", Is::address, true}, {"count", Is::number}});
        if (o["alive"] == true) thread_or_null("locks.owners.thread", o["thread"]);
      }
      for (const auto& w : l["waiters"]) {
        fields("locks.waiters", w,
               {{"thread", Is::address, true}, {"access", Is::text}, {"waited_ms", Is::number}});
        one_of("locks.waiters.access", w["access"], {"exclusive", "shared", "unknown"});
        thread_or_null("locks.waiters.thread", w["thread"]);
      }
      one_of("locks.confidence", l["confidence"], kConfidence);
    }
  }

  void irps() {
    for (const auto& i : list("", report_, "irps"))
      fields("irps", i,
             {{"address", Is::address, true},
              {"thread", Is::address},
              {"major", Is::text},
              {"minor", Is::text},
              {"driver", Is::text},
              {"device", Is::address},
              {"file", Is::text},
              {"stack", Is::list}});
  }

  void graph() {
    const Json& g = report_["wait_graph"];
    fields("wait_graph", g, {{"edges", Is::list}, {"cycles", Is::list}});
    std::set<std::pair<std::string, std::string>> edges;
    for (const auto& e : g["edges"]) {
      fields("edges", e,
             {{"from", Is::address, true},
              {"to", Is::address},
              {"via", Is::map, true},
              {"confidence", Is::text, true}});
      fields("edges.via", e["via"], {{"kind", Is::text, true}, {"address", Is::address, true}});
      one_of("edges.confidence", e["confidence"], kConfidence);
      thread_or_null("edges.from", e["from"]);
      thread_or_null("edges.to", e["to"]);
      if (!e["to"].is_null()) edges.emplace(e["from"], e["to"]);
    }
    // A cycle is made of edges that are there, the last one back to the first thread.
    for (const auto& c : g["cycles"]) {
      ASSERT_GE(c.size(), 1u);
      for (size_t i = 0; i < c.size(); i++)
        EXPECT_TRUE(edges.contains({c[i], c[(i + 1) % c.size()]})) << "no edge from " << c[i] << " in " << c;
    }
  }

  void findings() {
    for (const auto& f : list("", report_, "findings")) {
      fields("findings", f,
             {{"rule", Is::text, true},
              {"title", Is::text, true},
              {"confidence", Is::text, true},
              {"culprit", Is::map, true},
              {"chain", Is::list},
              {"evidence", Is::list},
              {"advice", Is::list}});
      one_of("findings.class", f["class"], kVerdicts);
      one_of("findings.confidence", f["confidence"], kConfidence);
      const Json& c = f["culprit"];
      fields("culprit", c,
             {{"thread", Is::address},
              {"process", Is::text},
              {"pid", Is::number},
              {"tid", Is::number},
              {"driver", Is::text},
              {"file", Is::text}});
      for (const auto& l : f["chain"]) {
        fields("chain", l,
               {{"waiters", Is::list},
                {"object", Is::address},
                {"kind", Is::text},
                {"name", Is::text},
                {"mode", Is::text},
                {"owner", Is::map}});
        for (const auto& w : l["waiters"]) thread_or_null("chain.waiters.thread", w["thread"]);
        one_of("chain.confidence", l["confidence"], kConfidence);
      }
      EXPECT_FALSE(f["evidence"].empty()) << "a finding without evidence: " << f["title"];
      for (const auto& e : f["evidence"]) {
        fields("evidence", e,
               {{"text", Is::text, true}, {"confidence", Is::text, true}, {"check", Is::text}});
        one_of("evidence.confidence", e["confidence"], kConfidence);
      }
      for (const auto& a : f["advice"]) EXPECT_TRUE(a.is_string());
    }
  }

  void verdict() {
    const Json& v = report_["verdict"];
    fields("verdict", v,
           {{"class", Is::text, true},
            {"finding", Is::number},
            {"summary", Is::text, true},
            {"confidence", Is::text, true}});
    one_of("verdict.class", v["class"], kVerdicts);
    one_of("verdict.confidence", v["confidence"], kConfidence);
    const bool hang = v["class"] != "no-hang" && v["class"] != "unknown";
    if (hang) {
      EXPECT_FALSE(v["finding"].is_null());
    }
    if (v["finding"].is_null()) return;
    ASSERT_LT(v["finding"].get<size_t>(), report_["findings"].size());
    const Json& f = report_["findings"][v["finding"].get<size_t>()];
    if (hang) {
      EXPECT_EQ(f["class"], v["class"]);
    }
  }

  Json report_;
  bool whole_;
  Words threads_, irps_;
};

class ContractTest : public testing::TestWithParam<std::tuple<std::string, synth::NamedScene>> {};

TEST_P(ContractTest, HoldsForEveryScene) {
  const auto& [build, named] = GetParam();
  const synth::Scene scene = named.make({.build = build});
  const auto session = synth::open_session(scene.machine->dump());
  ASSERT_TRUE(session);
  const Json report = Json::parse(synth::report(*session));
  EXPECT_EQ(report["verdict"]["class"], scene.verdict);
  EXPECT_FALSE(report["threads"].empty());
  EXPECT_FALSE(report["processes"].empty());
  EXPECT_FALSE(report["modules"].empty());
  Checker(report, true).all();
}

INSTANTIATE_TEST_SUITE_P(Scenes, ContractTest,
                         testing::Combine(testing::Values("6.1.7601.24540", "10.0.19041.804", "10.0.26100"),
                                          testing::ValuesIn(synth::kScenes)),
                         [](const auto& i) {
                           std::string s = std::get<0>(i.param) + "_" + std::get<1>(i.param).name;
                           std::replace(s.begin(), s.end(), '.', '_');
                           return s;
                         });

// The contract holds for partial results too: some of the machine's pages are missing.
TEST(ContractOfDamage, HoldsWithPagesMissing) {
  synth::Scene scene = synth::mixed_deadlock({});
  const std::vector<Pfn> pages = scene.machine->memory().pages().all();
  size_t opened = 0;
  for (size_t i = 0; i < pages.size(); i += 3) {
    auto target = nt::Target::open(synth::without_page(*scene.machine, pages[i]), {});
    if (!target) continue;
    opened++;
    SCOPED_TRACE(fmt::format("without page {:#x}", pages[i].address().value()));
    app::Session session(std::move(*target));
    Checker(Json::parse(synth::report(session)), false).all();
  }
  EXPECT_GT(opened, 10u);
}

}  // namespace
}  // namespace unhang
