// A symbol path as Windows debuggers write it: "srv*/var/symbols*https://server/symbols;cache*/tmp/c;/other".
// Source: Microsoft, "Symbol path for Windows debuggers" and "Advanced SymSrv use".
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace unhang::symbols {

// Where files lie by name, GUID and age: a folder or a server.
struct SymbolStore {
  bool http = false;
  std::string location;  // without a slash at the end
};

// Stores of one element, the nearest first: what a farther one has is put into the nearer folders.
struct PathElement {
  std::vector<SymbolStore> stores;
  bool plain = false;  // the last one is a folder where a file may lie under its name alone
};

struct SymbolPath {
  std::vector<PathElement> elements;
  std::vector<std::string> problems;  // parts that mean nothing here, one sentence each
};

inline constexpr const char* kMicrosoftServer = "https://msdl.microsoft.com/download/symbols";

// default_store: the folder that "srv**url", "srv*" and "cache*" mean; empty: they keep nothing.
SymbolPath parse_symbol_path(std::string_view text, const std::string& default_store);

}  // namespace unhang::symbols
