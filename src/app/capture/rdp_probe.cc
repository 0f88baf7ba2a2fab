// Remote Desktop as a probe: the beginning of a connection, [MS-RDPBCGR] 1.3.1.1 and 5.4.
//
// TermService answers the connection request in user mode of the guest, so its silence shows a hang that a
// ping or the bare TCP handshake (the kernel's) does not. Then the server's part of a TLS handshake, which
// needs its certificate's key: Windows uses keys in the LSA process only (Microsoft, "CNG Key Isolation"), so
// this answer shows a logon service that hangs. It does not log on: that comes behind TLS, needs an account,
// and asks winlogon and the profile service. A logon that hangs behind prompt answers needs a command of the
// user's: --when-slow.
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "app/capture/descriptor.h"
#include "app/capture/probe.h"
#include "app/capture/tls_greeting.h"
#include "app/interrupt.h"
#include "base/format.h"
#include "base/types.h"

namespace unhang::app::capture {

namespace {

constexpr const char* kPort = "3389";

// TPKT header (RFC 1006), X.224 connection request (code 0xe0), RDP_NEG_REQ: TLS or CredSSP. 2.2.1.1
constexpr std::array<u8, 19> kRequest = {3,  0,    0, 19,           //
                                         14, 0xe0, 0, 0,  0, 0, 0,  //
                                         1,  0,    8, 0,  3, 0, 0, 0};
constexpr u8 kConfirmCode = 0xd0;  // 2.2.1.2, at offset 5
constexpr size_t kConfirmSize = 7;
// At offset 11, 2.2.1.2.1 and 2.2.1.2.2; the protocol that was chosen, or the reason, is at 15.
constexpr u8 kNegotiationResponse = 2, kNegotiationFailure = 3;
constexpr size_t kNegotiated = 19;
constexpr u32 kStandardSecurity = 0;

class RdpProbe : public Probe {
 public:
  RdpProbe(std::string host, std::string port) : host_(std::move(host)), port_(std::move(port)) {}

  std::string name() const override { return fmt::format("rdp:{}:{}", host_, port_); }

  Outcome<void> start() override {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(host_.c_str(), port_.c_str(), &hints, &found); error != 0)
      return mistake(fmt::format("{}: {}", host_, gai_strerror(error)));
    addresses_.reset(found);
    stage_ = Stage::connecting;
    answered_ = false;
    begun_ = Clock::now();
    answer_.clear();
    early_ = "no address";
    next_ = found;
    connect_next();
    return {};
  }

  Outcome<std::optional<ProbeEnd>> wait(milliseconds time) override {
    const auto end = Clock::now() + time;
    while (!early_ && Interrupt::signal() == 0) {
      const auto left = std::chrono::ceil<milliseconds>(end - Clock::now()).count();
      pollfd p[] = {{socket_.get(), static_cast<short>(stage_ == Stage::connecting ? POLLOUT : POLLIN), 0},
                    {Interrupt::descriptor(), POLLIN, 0}};
      poll(p, 2, static_cast<int>(std::clamp<long long>(left, 0, 3'600'000)));
      if (p[0].revents == 0 && left <= 0) return std::nullopt;
      if (p[0].revents == 0) continue;
      if (stage_ == Stage::connecting)
        send();
      else
        receive();
    }
    if (!early_) return std::nullopt;
    return ProbeEnd{*early_, answered_};
  }

  void stop() override { socket_.reset(); }

 private:
  enum class Stage { connecting, negotiating, tls };

  // The addresses in turn: a name may stand for one that nobody listens at.
  void connect_next() {
    while (early_ && next_ != nullptr) {
      const addrinfo* a = std::exchange(next_, next_->ai_next);
      socket_ = Descriptor(::socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
      if (socket_ && (connect(socket_.get(), a->ai_addr, a->ai_addrlen) == 0 || errno == EINPROGRESS))
        early_.reset();
      else
        early_ = fmt::format("no connection: {}", std::strerror(errno));
    }
  }

  void send() {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
    if (error != 0) {
      early_ = fmt::format("no connection: {}", std::strerror(error));
      connect_next();
    } else if (::send(socket_.get(), kRequest.data(), kRequest.size(), MSG_NOSIGNAL) ==
               ssize_t{kRequest.size()}) {
      stage_ = Stage::negotiating;
    } else {
      early_ = fmt::format("the connection broke: {}", std::strerror(errno));
    }
  }

  void receive() {
    std::array<u8, 4096> buffer;
    const ssize_t n = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) early_ = fmt::format("the connection broke: {}", std::strerror(errno));
    if (n == 0) early_ = stage_ == Stage::tls ? "closed in the TLS handshake" : "closed without an answer";
    if (n <= 0) return;
    answer_.insert(answer_.end(), buffer.begin(), buffer.begin() + n);
    if (stage_ == Stage::tls)
      receive_tls();
    else
      receive_confirm();
  }

  void receive_confirm() {
    if (answer_.size() < kConfirmSize) return;
    const size_t whole = size_t{answer_[2]} << 8 | answer_[3];
    if (answer_[0] != 3 || answer_[5] != kConfirmCode || whole < kConfirmSize) {
      early_ = "an answer that is not RDP's";
      return;
    }
    if (answer_.size() < whole) return;
    const ByteView a(answer_.data(), answer_.size());
    answered_ = true;
    if (whole >= kNegotiated && a.at<u8>(11) == kNegotiationFailure)
      early_ = "answered (it refuses TLS and CredSSP)";
    else if (whole < kNegotiated || a.at<u8>(11) != kNegotiationResponse ||
             a.at<u32>(15) == kStandardSecurity)
      early_ = "answered (standard RDP security)";
    else
      begin_tls();
  }

  void begin_tls() {
    const std::vector<u8> hello = tls_client_hello();
    answered_ = false;
    answer_.clear();
    stage_ = Stage::tls;
    connected_ = since(begun_);
    if (::send(socket_.get(), hello.data(), hello.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(hello.size()))
      early_ = fmt::format("the connection broke: {}", std::strerror(errno));
  }

  void receive_tls() {
    const auto end = tls_answer(ByteView(answer_.data(), answer_.size()));
    if (!end) return;
    answered_ = end->good;
    early_ = fmt::format("answered after {}, {}", duration_text(connected_), end->how);
  }

  std::string host_, port_;
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses_{nullptr, freeaddrinfo};
  const addrinfo* next_ = nullptr;
  Descriptor socket_;
  Stage stage_ = Stage::connecting;
  bool answered_ = false;
  Clock::time_point begun_;
  milliseconds connected_{};  // until the connection was confirmed
  std::vector<u8> answer_;
  std::optional<std::string> early_;  // how it ended
};

}  // namespace

Outcome<std::unique_ptr<Probe>> rdp_probe(const std::string& where) {
  std::string host = where, port = kPort;
  const size_t bracket = where.find(']');
  std::string rest;  // ":PORT"
  if (where.starts_with('[') && bracket != where.npos) {
    host = where.substr(1, bracket - 1);
    rest = where.substr(bracket + 1);
  } else if (const size_t colon = where.find(':'); colon != where.npos) {
    host = where.substr(0, colon);
    rest = where.substr(colon);
  }
  if (!rest.empty()) port = rest.substr(1);
  // An address of IPv6 without brackets has a colon in its "port".
  u16 number = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), number);
  if (host.empty() || (!rest.empty() && rest.front() != ':') || error != std::errc() ||
      end != port.data() + port.size() || number == 0)
    return mistake(
        fmt::format("rdp:{}: wanted is rdp:HOST, rdp:HOST:PORT or rdp:[IPv6 ADDRESS]:PORT", where));
  return std::make_unique<RdpProbe>(host, port);
}

}  // namespace unhang::app::capture
