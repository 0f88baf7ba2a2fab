// Symbol paths as people have them in their environment.
#include "symbols/symbol_path.h"

#include <gtest/gtest.h>

namespace unhang::symbols {
namespace {

// "folder", "http:...", one element a line: "a > b" is nearest first; a plain folder ends with '/'.
std::string shown(const std::string& text) {
  std::string out;
  const SymbolPath path = parse_symbol_path(text, "/default");
  for (const PathElement& e : path.elements) {
    for (size_t i = 0; i < e.stores.size(); i++)
      out += (i == 0 ? "" : " > ") + e.stores[i].location + (e.stores[i].http ? " (server)" : "");
    out += e.plain ? "/\n" : "\n";
  }
  for (const std::string& p : path.problems) out += "! " + p + "\n";
  return out;
}

TEST(SymbolPathTest, WhatMicrosoftDocuments) {
  EXPECT_EQ(shown("srv*/c*https://msdl.microsoft.com/download/symbols"),
            "/c > https://msdl.microsoft.com/download/symbols (server)\n");
  EXPECT_EQ(shown("SRV*https://host/symbols/"), "https://host/symbols (server)\n");
  EXPECT_EQ(shown("srv*"), "/default > https://msdl.microsoft.com/download/symbols (server)\n");
  EXPECT_EQ(shown("srv**https://host"), "/default > https://host (server)\n");
  EXPECT_EQ(shown("srv*/a*/b*http://host"), "/a > /b > http://host (server)\n");
  EXPECT_EQ(shown("symsrv*symsrv.dll*/a*http://host"), "/a > http://host (server)\n");
  EXPECT_EQ(shown("/plain; srv*/a*HTTP://host ;"), "/plain/\n/a > HTTP://host (server)\n");
}

TEST(SymbolPathTest, CacheIsInFrontOfWhatFollows) {
  EXPECT_EQ(shown("/before;cache*/k;srv*http://host;/after"),
            "/before/\n/k\n/k > http://host (server)\n/k > /after/\n");
  EXPECT_EQ(shown("cache*;srv*http://host"), "/default\n/default > http://host (server)\n");
  EXPECT_EQ(shown("cache*/k"), "/k\n");
}

TEST(SymbolPathTest, WhatMeansNothingHereIsSaid) {
  EXPECT_EQ(shown(R"(srv*C:\symbols*https://host)"),
            "https://host (server)\n! C:\\symbols: a path of Windows means nothing here\n");
  EXPECT_EQ(shown(R"(\\server\share)"), "! \\\\server\\share: a path of Windows means nothing here\n");
  EXPECT_EQ(shown("nonsense*x"),
            "! nonsense*x: neither srv*..., cache*..., a folder nor a server's address\n");
  EXPECT_EQ(shown(""), "");
  EXPECT_EQ(shown(";;"), "");
  EXPECT_NE(shown("srv*1*2*3*4*5*6*7*8*9*10*11").find("more than 10"), std::string::npos);
}

}  // namespace
}  // namespace unhang::symbols
