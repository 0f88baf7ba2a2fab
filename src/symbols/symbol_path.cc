#include "symbols/symbol_path.h"

#include <algorithm>
#include <optional>

#include "base/format.h"

namespace unhang::symbols {

namespace {

constexpr size_t kMostStores = 10;  // in one element, as symsrv has it

std::string_view trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

std::vector<std::string_view> split(std::string_view text, char at) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = text.find(at);
    parts.push_back(trim(text.substr(0, end)));
    if (end == std::string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

bool same(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return (x >= 'A' && x <= 'Z' ? x + 32 : +x) == y; });
}

bool is_url(std::string_view s) {
  return same(s.substr(0, 7), "http://") || same(s.substr(0, 8), "https://");
}

// "C:\symbols", "\\server\share": paths that people take along from Windows.
bool is_windows_path(std::string_view s) {
  const bool drive = s.size() >= 2 && s[1] == ':' && ((s[0] | 32) >= 'a' && (s[0] | 32) <= 'z');
  return drive || s.starts_with("\\\\");
}

class Parser {
 public:
  explicit Parser(const std::string& default_store) : default_store_(default_store) {}

  SymbolPath parse(std::string_view text) {
    for (const std::string_view part : split(text, ';'))
      if (!part.empty()) element(part);
    return std::move(path_);
  }

 private:
  // Nothing: the part cannot be used here, and a problem says so.
  std::optional<SymbolStore> store(std::string_view at) {
    if (is_windows_path(at)) {
      path_.problems.push_back(fmt::format("{}: a path of Windows means nothing here", at));
      return std::nullopt;
    }
    std::string location(at);
    while (location.size() > 1 && location.ends_with('/')) location.pop_back();
    return SymbolStore{is_url(at), std::move(location)};
  }

  void add_default(std::vector<SymbolStore>& stores) {
    if (!default_store_.empty()) stores.push_back({false, default_store_});
  }

  void element(std::string_view text) {
    std::vector<std::string_view> tokens = split(text, '*');
    if (same(tokens.front(), "cache") && tokens.size() > 1) {
      // Keeps what the elements right of it find.
      caches_.clear();
      if (tokens[1].empty())
        add_default(caches_);
      else if (auto s = store(tokens[1]))
        caches_.push_back(std::move(*s));
      // What has been kept there is found there.
      if (!caches_.empty()) path_.elements.push_back({caches_, false});
      return;
    }
    PathElement e{caches_, false};
    if (tokens.size() == 1) {
      auto s = store(text);
      if (!s) return;
      e.plain = !s->http;
      e.stores.push_back(std::move(*s));
      path_.elements.push_back(std::move(e));
      return;
    }
    if (same(tokens.front(), "symsrv") && tokens.size() > 2) {
      tokens.erase(tokens.begin(), tokens.begin() + 2);  // symsrv*symsrv.dll*...
    } else if (same(tokens.front(), "srv")) {
      tokens.erase(tokens.begin());
    } else {
      path_.problems.push_back(
          fmt::format("{}: neither srv*..., cache*..., a folder nor a server's address", text));
      return;
    }
    // "srv*": the default store and Microsoft's server.
    if (tokens.size() == 1 && tokens.front().empty()) tokens.push_back(kMicrosoftServer);
    for (const std::string_view token : tokens) {
      if (token.empty())
        add_default(e.stores);
      else if (auto s = store(token))
        e.stores.push_back(std::move(*s));
    }
    if (e.stores.size() > kMostStores) {
      path_.problems.push_back(fmt::format("{}: more than {} stores", text, kMostStores));
      return;
    }
    if (e.stores.size() > caches_.size()) path_.elements.push_back(std::move(e));
  }

  const std::string& default_store_;
  std::vector<SymbolStore> caches_;
  SymbolPath path_;
};

}  // namespace

SymbolPath parse_symbol_path(std::string_view text, const std::string& default_store) {
  return Parser(default_store).parse(text);
}

}  // namespace unhang::symbols
