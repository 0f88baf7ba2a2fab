// Getting files over HTTP. The only place that touches the network, and only `symbols fetch` calls it.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "base/progress.h"

namespace unhang::symbols {

struct HttpOptions {
  std::string proxy;  // "host:port"; empty: what the environment says (https_proxy, no_proxy ...)
  std::chrono::milliseconds connect_timeout{15'000};
  std::chrono::seconds stall_timeout{60};        // without a byte
  std::chrono::milliseconds retry_delay{1'000};  // doubled each time
  int attempts = 3;                              // for what may pass: no connection, 5xx, a body cut short
  u64 most_bytes = u64{2} << 30;                 // the largest public PDBs have some hundred megabytes
};

struct HttpReply {
  enum class Outcome { found, absent, failed };
  Outcome outcome = Outcome::failed;
  bool unreachable = false;  // no connection: other files will fare no better
  u64 bytes = 0;
  std::string problem;  // of a failure, one phrase: "the server says 500"
};

// One client: connections are kept for the next file.
class Http {
 public:
  explicit Http(HttpOptions options);
  ~Http();
  Http(const Http&) = delete;
  Http& operator=(const Http&) = delete;

  // Writes the body into a file at path, which is then there only if the outcome is found.
  HttpReply get(const std::string& url, const std::string& path, const Progress& progress);

  // A part of a URL's path with whatever is not plain escaped.
  static std::string escape(const std::string& part);

 private:
  struct Curl;
  HttpOptions options_;
  std::unique_ptr<Curl> curl_;
};

}  // namespace unhang::symbols
