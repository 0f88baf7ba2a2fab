#include "app/capture/qmp.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/format.h"

namespace unhang::app::capture {

namespace {

constexpr milliseconds kGreeting(5000), kSlice(200);
constexpr size_t kLongestLine = 16 << 20;

std::string sentence(const Qmp::Json& error) {
  return error.is_object() ? error.value("desc", "no reason given") : "no reason given";
}

std::optional<Qmp::Event> as_event(const Qmp::Json& m) {
  if (!m.contains("event") || !m["event"].is_string()) return std::nullopt;
  Qmp::Event e{.name = m["event"], .data = m.value("data", Qmp::Json::object())};
  if (m.contains("timestamp") && m["timestamp"].is_object())
    e.when = std::chrono::seconds(m["timestamp"].value("seconds", 0LL)) +
             std::chrono::microseconds(m["timestamp"].value("microseconds", 0LL));
  return e;
}

}  // namespace

Outcome<std::unique_ptr<Qmp>> Qmp::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return mistake(fmt::format("{}: the path is too long for a socket", path));
  std::memcpy(address.sun_path, path.c_str(), path.size());
  auto qmp = std::make_unique<Qmp>();
  qmp->socket_ = Descriptor(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!qmp->socket_) return trouble(fmt::format("cannot make a socket: {}", std::strerror(errno)));
  if (::connect(qmp->socket_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return mistake(fmt::format("{}: cannot connect to the QMP socket: {}", path, std::strerror(errno)));
  const auto greeting = TRY(qmp->receive(Clock::now() + kGreeting, false));
  if (!greeting)
    return mistake(fmt::format(
        "{}: no greeting: a QMP socket serves one program at a time, and another has it, or this is "
        "none (libvirt's own monitors belong to libvirt: name the domain instead)",
        path));
  if (!greeting->contains("QMP")) return trouble(fmt::format("{}: this is no QMP socket", path));
  TRY(qmp->command("qmp_capabilities"));
  return qmp;
}

Outcome<void> Qmp::send(const std::string& line, int descriptor) {
  std::string_view rest = line;
  while (!rest.empty()) {
    iovec part{const_cast<char*>(rest.data()), rest.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
    if (descriptor >= 0) {
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      cmsghdr* c = CMSG_FIRSTHDR(&message);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int));
      std::memcpy(CMSG_DATA(c), &descriptor, sizeof descriptor);
    }
    const ssize_t n = sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return gone(fmt::format("QEMU is gone: {}", std::strerror(errno)), true);
    descriptor = -1;
    rest.remove_prefix(static_cast<size_t>(n));
  }
  return {};
}

Outcome<std::optional<Qmp::Json>> Qmp::receive(Clock::time_point end, bool events) {
  while (true) {
    if (const size_t line = unread_.find('\n'); line != unread_.npos) {
      const Json message = Json::parse(unread_.substr(0, line), nullptr, false);
      unread_.erase(0, line + 1);
      if (!message.is_object()) return trouble("what answers on the socket does not speak QMP");
      auto event = as_event(message);
      if (!event) return message;
      events_.push_back(std::move(*event));
      if (events) return std::nullopt;
      continue;
    }
    const auto left = std::chrono::ceil<milliseconds>(end - Clock::now());
    if (left.count() <= 0) return std::nullopt;
    if (keep_waiting && !keep_waiting()) return trouble("given up");
    pollfd p{socket_.get(), POLLIN, 0};
    if (poll(&p, 1, static_cast<int>(std::min(left, kSlice).count())) <= 0) continue;
    std::array<char, 1 << 16> buffer;
    const ssize_t n = recv(socket_.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n <= 0) return gone("QEMU is gone: it closed the QMP socket", true);
    unread_.append(buffer.data(), static_cast<size_t>(n));
    if (unread_.size() > kLongestLine) return trouble("what answers on the socket does not speak QMP");
  }
}

Outcome<Qmp::Json> Qmp::command(const std::string& name, const Json& arguments, milliseconds patience,
                                int descriptor) {
  Json request{{"execute", name}};
  if (!arguments.empty()) request["arguments"] = arguments;
  TRY_VOID(send(request.dump() + "\n", descriptor));
  const auto end = Clock::now() + patience;
  while (true) {
    const auto answer = TRY(receive(end, false));
    if (!answer)
      return trouble(fmt::format("QEMU does not answer {} within {}", name, duration_text(patience)));
    if (answer->contains("error")) return mistake(fmt::format("QEMU says: {}", sentence((*answer)["error"])));
    if (answer->contains("return")) return (*answer)["return"];
  }
}

Outcome<std::optional<Qmp::Event>> Qmp::event(milliseconds patience) {
  if (events_.empty()) TRY(receive(Clock::now() + patience, true));
  if (events_.empty()) return std::nullopt;
  Event e = std::move(events_.front());
  events_.pop_front();
  return e;
}

}  // namespace unhang::app::capture
