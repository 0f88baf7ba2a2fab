// Every rule has a page that says what it means and what to do.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>

#include "diagnose/rule.h"
#include "rules.plugs.h"

namespace unhang::diagnose {
namespace {

namespace fs = std::filesystem;

const fs::path kPages = UNHANG_SOURCE_DIR "/docs/rules";

TEST(Rules, EachHasAPage) {
  std::set<std::string> pages;
  for (const auto& f : fs::directory_iterator(kPages)) pages.insert(f.path().stem().string());
  pages.erase("README");
  for (const Rule* rule : kRules) {
    EXPECT_EQ(pages.erase(rule->name), 1u) << rule->name << " has no page in docs/rules";
    std::ifstream f(kPages / (std::string(rule->name) + ".md"));
    const std::string text{std::istreambuf_iterator<char>(f), {}};
    for (const char* part :
         {"**What it means.**", "**How it is found.**", "**What to do.**", "**For the customer.**"})
      EXPECT_NE(text.find(part), text.npos) << rule->name << ": " << part;
  }
  for (const std::string& page : pages) ADD_FAILURE() << page << ".md belongs to no rule";
}

}  // namespace
}  // namespace unhang::diagnose
