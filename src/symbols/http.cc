#include "symbols/http.h"

#define CURL_DISABLE_TYPECHECK  // its checks are macros that know only the functions themselves
#include <curl/curl.h>
#include <dlfcn.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/format.h"

namespace unhang::symbols {

namespace {

// What symsrv calls itself; some servers answer other clients with a page for people.
constexpr const char* kUserAgent = "Microsoft-Symbol-Server/10.0";

// Loaded when something is fetched: libcurl brings two dozen libraries, and loading them was half of what any
// other command took to start.
constexpr const char* kLibrary = "libcurl.so.4";

// The functions that we call, by their names, with their types from the header.
#define UNHANG_CURL_FUNCTIONS(X) \
  X(curl_global_init)            \
  X(curl_easy_init)              \
  X(curl_easy_cleanup)           \
  X(curl_easy_reset)             \
  X(curl_easy_setopt)            \
  X(curl_easy_perform)           \
  X(curl_easy_getinfo)           \
  X(curl_easy_strerror)

struct Library {
#define UNHANG_CURL_POINTER(name) decltype(&::name) name = nullptr;
  UNHANG_CURL_FUNCTIONS(UNHANG_CURL_POINTER)
#undef UNHANG_CURL_POINTER
  std::string problem;  // why it cannot be used
};

Library load() {
  Library l;
  // Never unloaded: it may have threads that resolve names.
  void* handle = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    l.problem = fmt::format("libcurl is not installed ({}, Debian's libcurl4)", kLibrary);
    return l;
  }
#define UNHANG_CURL_LOAD(name)                                       \
  l.name = reinterpret_cast<decltype(l.name)>(dlsym(handle, #name)); \
  if (l.name == nullptr) l.problem = fmt::format("{} lacks {}", kLibrary, #name);
  UNHANG_CURL_FUNCTIONS(UNHANG_CURL_LOAD)
#undef UNHANG_CURL_LOAD
  if (l.problem.empty() && l.curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
    l.problem = "libcurl cannot start";
  return l;
}

const Library& library() {
  static const Library loaded = load();
  return loaded;
}

struct Download {
  CURL* curl = nullptr;
  std::FILE* file = nullptr;
  u64 bytes = 0, most = 0;
  bool too_large = false, disk = false, stopped = false;
  const Progress* progress = nullptr;
};

size_t on_body(char* data, size_t, size_t size, void* user) {
  Download& d = *static_cast<Download*>(user);
  long status = 0;
  library().curl_easy_getinfo(d.curl, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) return size;  // a page that explains an error
  if (size > d.most - d.bytes) {
    d.too_large = true;
    return 0;
  }
  if (std::fwrite(data, 1, size, d.file) != size) {
    d.disk = true;
    return 0;
  }
  d.bytes += size;
  return size;
}

int on_progress(void* user, curl_off_t total, curl_off_t now, curl_off_t, curl_off_t) {
  Download& d = *static_cast<Download*>(user);
  if (!*d.progress) return 0;
  const ProgressStep step{
      .what = "fetching symbols", .done = static_cast<u64>(now), .total = static_cast<u64>(total)};
  d.stopped = !(*d.progress)(step);
  return d.stopped ? 1 : 0;
}

// Whether the same question may have another answer in a second.
bool may_pass(CURLcode code, long status) {
  switch (code) {
    case CURLE_OK:
      return status >= 500 || status == 408 || status == 429;
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
      return true;
    default:
      return false;
  }
}

}  // namespace

struct Http::Curl {
  CURL* easy = nullptr;
  Curl() {
    if (library().problem.empty()) easy = library().curl_easy_init();
  }
  ~Curl() {
    if (easy != nullptr) library().curl_easy_cleanup(easy);
  }
};

Http::Http(HttpOptions options) : options_(std::move(options)), curl_(std::make_unique<Curl>()) {}
Http::~Http() = default;

std::string Http::escape(const std::string& part) {
  std::string out;
  for (const char c : part) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
                       std::string_view("-._~").find(c) != std::string_view::npos;
    out += plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

HttpReply Http::get(const std::string& url, const std::string& path, const Progress& progress) {
  HttpReply reply;
  const Library& lib = library();
  CURL* c = curl_->easy;
  if (c == nullptr) {
    reply.problem = lib.problem.empty() ? "libcurl cannot start" : lib.problem;
    reply.unreachable = true;
    return reply;
  }
  auto delay = options_.retry_delay;
  for (int attempt = 1;; attempt++) {
    Download d{.curl = c, .most = options_.most_bytes, .progress = &progress};
    d.file = std::fopen(path.c_str(), "wbe");
    if (d.file == nullptr) {
      reply.problem = fmt::format("{}: {}", path, std::strerror(errno));
      return reply;
    }
    lib.curl_easy_reset(c);
    std::array<char, CURL_ERROR_SIZE> message{};
    lib.curl_easy_setopt(c, CURLOPT_URL, url.c_str());
    lib.curl_easy_setopt(c, CURLOPT_ERRORBUFFER, message.data());
    lib.curl_easy_setopt(c, CURLOPT_USERAGENT, kUserAgent);
    lib.curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    lib.curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
    lib.curl_easy_setopt(c, CURLOPT_MAXREDIRS, 10L);
    lib.curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    // What was asked for safely is not fetched unsafely because a server says so.
    lib.curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR, url.starts_with("http:") ? "http,https" : "https");
    lib.curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
    lib.curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
    lib.curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options_.stall_timeout.count()));
    lib.curl_easy_setopt(c, CURLOPT_MAXFILESIZE_LARGE, static_cast<curl_off_t>(options_.most_bytes));
    if (!options_.proxy.empty()) lib.curl_easy_setopt(c, CURLOPT_PROXY, options_.proxy.c_str());
    lib.curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    lib.curl_easy_setopt(c, CURLOPT_WRITEDATA, &d);
    lib.curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    lib.curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_progress);
    lib.curl_easy_setopt(c, CURLOPT_XFERINFODATA, &d);
    const CURLcode code = lib.curl_easy_perform(c);
    d.disk |= std::fclose(d.file) != 0;
    long status = 0;
    lib.curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    if (code == CURLE_OK && status == 200 && !d.disk) {
      reply.outcome = HttpReply::Outcome::found;
      reply.bytes = d.bytes;
      reply.problem.clear();
      return reply;
    }
    std::remove(path.c_str());
    if (code == CURLE_OK && (status == 404 || status == 410)) {
      reply.outcome = HttpReply::Outcome::absent;
      return reply;
    }
    if (d.too_large || code == CURLE_FILESIZE_EXCEEDED)
      reply.problem = fmt::format("larger than {} MiB", options_.most_bytes >> 20);
    else if (d.disk)
      reply.problem = fmt::format("{}: cannot write", path);
    else if (d.stopped)
      reply.problem = "stopped";
    else if (code != CURLE_OK)
      reply.problem = message[0] != 0 ? message.data() : lib.curl_easy_strerror(code);
    else
      reply.problem = fmt::format("the server says {}", status);
    reply.unreachable = code == CURLE_COULDNT_CONNECT || code == CURLE_COULDNT_RESOLVE_HOST ||
                        code == CURLE_COULDNT_RESOLVE_PROXY;
    if (d.disk || d.stopped || attempt >= options_.attempts || !may_pass(code, status)) return reply;
    std::this_thread::sleep_for(delay);
    delay *= 2;
  }
}

}  // namespace unhang::symbols
