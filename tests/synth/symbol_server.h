// An HTTP server on 127.0.0.1 for tests of fetching: says what it is told, and remembers what it was asked.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/types.h"

namespace unhang::synth {

struct HttpAnswer {
  int status = 200;
  std::vector<u8> body;
  std::string location;  // of a redirect
  u64 claimed = 0;       // Content-Length, when it is a lie
  bool stalls = false;   // keeps the connection, and sends nothing more
};

class SymbolServer {
 public:
  SymbolServer();
  ~SymbolServer();
  SymbolServer(const SymbolServer&) = delete;
  SymbolServer& operator=(const SymbolServer&) = delete;

  // What it answers to a path ("/ntkrnlmp.pdb/..."), or to a whole address when it is used as a proxy. What
  // it does not know is 404. Several answers for one path are given in turn, the last one for good.
  void answer(const std::string& path, HttpAnswer answer);
  std::string url(const std::string& path = "") const;
  std::string host() const;  // "127.0.0.1:port"
  // Request lines' targets, in order, and the client's name.
  std::vector<std::string> asked() const;
  std::string user_agent() const;

 private:
  void run();
  void serve(int client);

  int listener_ = -1;
  u16 port_ = 0;
  std::atomic<bool> stop_ = false;
  mutable std::mutex mutex_;
  std::map<std::string, std::vector<HttpAnswer>> answers_;
  std::vector<std::string> asked_;
  std::string user_agent_;
  std::thread thread_;
};

}  // namespace unhang::synth
