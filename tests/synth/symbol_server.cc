#include "synth/symbol_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/check.h"
#include "base/format.h"

namespace unhang::synth {

SymbolServer::SymbolServer() {
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  UNHANG_CHECK(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  UNHANG_CHECK(listen(listener_, 16) == 0);
  socklen_t size = sizeof address;
  getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
  port_ = ntohs(address.sin_port);
  thread_ = std::thread([this] { run(); });
}

SymbolServer::~SymbolServer() {
  stop_ = true;
  thread_.join();
  close(listener_);
}

void SymbolServer::answer(const std::string& path, HttpAnswer answer) {
  const std::lock_guard lock(mutex_);
  answers_[path].push_back(std::move(answer));
}

std::string SymbolServer::host() const {
  return fmt::format("127.0.0.1:{}", port_);
}

std::string SymbolServer::url(const std::string& path) const {
  return "http://" + host() + path;
}

std::vector<std::string> SymbolServer::asked() const {
  const std::lock_guard lock(mutex_);
  return asked_;
}

std::string SymbolServer::user_agent() const {
  const std::lock_guard lock(mutex_);
  return user_agent_;
}

void SymbolServer::run() {
  while (!stop_) {
    pollfd p{listener_, POLLIN, 0};
    if (poll(&p, 1, 20) <= 0) continue;
    const int client = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    serve(client);
    close(client);
  }
}

// One request a connection.
void SymbolServer::serve(int client) {
  std::string request;
  char buffer[4096];
  while (request.find("\r\n\r\n") == std::string::npos) {
    const ssize_t n = read(client, buffer, sizeof buffer);
    if (n <= 0) return;
    request.append(buffer, static_cast<size_t>(n));
  }
  const size_t begin = request.find(' ') + 1;
  const std::string target = request.substr(begin, request.find(' ', begin) - begin);
  HttpAnswer answer{.status = 404};
  {
    const std::lock_guard lock(mutex_);
    asked_.push_back(target);
    const std::string agent = "User-Agent: ";
    if (const size_t at = request.find(agent); at != std::string::npos)
      user_agent_ = request.substr(at + agent.size(), request.find('\r', at) - at - agent.size());
    if (const auto it = answers_.find(target); it != answers_.end() && !it->second.empty()) {
      answer = it->second.front();
      if (it->second.size() > 1) it->second.erase(it->second.begin());
    }
  }
  std::string head = fmt::format("HTTP/1.1 {} x\r\nConnection: close\r\nContent-Length: {}\r\n",
                                 answer.status, answer.claimed != 0 ? answer.claimed : answer.body.size());
  if (!answer.location.empty()) head += "Location: " + answer.location + "\r\n";
  head += "\r\n";
  std::vector<u8> bytes(head.begin(), head.end());
  bytes.insert(bytes.end(), answer.body.begin(), answer.body.end());
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = send(client, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (n <= 0) return;
    done += static_cast<size_t>(n);
  }
  if (!answer.stalls) shutdown(client, SHUT_WR);
  while (read(client, buffer, sizeof buffer) > 0) {
  }
}

}  // namespace unhang::synth
