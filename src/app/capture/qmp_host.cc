// A machine whose QEMU we reach by a QMP socket: -qmp unix:SOCKET,server=on,wait=off.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "app/capture/host.h"
#include "app/capture/qmp.h"
#include "base/format.h"

namespace unhang::app::capture {

namespace {

using std::chrono::microseconds;
using std::chrono::seconds;
using Json = Qmp::Json;

// Before it stops the machine QEMU waits for requests to the guest's disks: where storage hangs, that is
// long.
constexpr auto kForever = std::chrono::hours(24 * 365);
constexpr seconds kFarewell(30), kResume(10);
constexpr const char* kPipeName = "unhang-dump";

// The kdump-raw forms (QEMU 8.2) need a file that can be sought in; what they hold, the flattened forms hold
// too.
bool through_pipe(const std::string& format) {
  return !format.starts_with("kdump-raw");
}

class QmpHost : public Host {
 public:
  QmpHost(std::string socket, std::unique_ptr<Qmp> qmp) : socket_(std::move(socket)), qmp_(std::move(qmp)) {
    qmp_->keep_waiting = [this] {
      if (!abandoned_) return true;
      if (!last_moment_) last_moment_ = Clock::now() + kFarewell;
      return Clock::now() < *last_moment_;
    };
  }

  std::string name() const override { return "QMP, " + socket_; }

  Outcome<Guest> look() override {
    const Json answer = TRY(qmp_->command("query-status"));
    const Json memory = TRY(qmp_->command("query-memory-size-summary"));
    const std::string status = answer.value("status", "unknown");
    Guest g{.memory = memory.value("base-memory", u64{0}) + memory.value("plugged-memory", u64{0}),
            .running = answer.value("running", false),
            .held = status == "save-vm",
            .state = status};
    // -name is not required.
    const auto named = qmp_->command("query-name");
    if (named) g.name = named->value("name", "");
    return g;
  }

  Outcome<std::vector<std::string>> formats() override {
    const Json answer = TRY(qmp_->command("query-dump-guest-memory-capability"));
    std::vector<std::string> names;
    for (const Json& f : answer.value("formats", Json::array()))
      if (f.is_string() && through_pipe(f)) names.push_back(f);
    return names;
  }

  Outcome<Descriptor> open_pipe() override {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
      return trouble(fmt::format("cannot make a pipe: {}", std::strerror(errno)));
    writing_end_ = Descriptor(ends[1]);
    return Descriptor(ends[0]);
  }

  Outcome<void> dump(const std::string& format) override {
    Descriptor ours = std::move(writing_end_);
    TRY(qmp_->command("getfd", {{"fdname", kPipeName}}, kFarewell, ours.get()));
    return write(format, std::move(ours));
  }

  std::optional<milliseconds> stood_still() override { return stood_still_; }

  Outcome<void> let_run() override {
    TRY(qmp_->command("cont"));
    return {};
  }

 private:
  Outcome<void> write(const std::string& format, Descriptor ours) {
    const bool ran = TRY(look()).running;
    stood_still_.reset();
    // Events from before are nobody's business.
    while (TRY(qmp_->event(milliseconds(0)))) {
    }
    const auto begun = qmp_->command("dump-guest-memory",
                                     {{"paging", false},
                                      {"protocol", fmt::format("fd:{}", kPipeName)},
                                      {"format", format},
                                      {"detach", true}},
                                     kForever);
    ours.reset();  // from here on QEMU alone can keep the pipe open
    if (!begun) {
      // It may have refused before it took the descriptor.
      (void)qmp_->command("closefd", {{"fdname", kPipeName}}, kFarewell);
      return std::unexpected(begun.error());
    }
    return follow(ran);
  }

  // DUMP_COMPLETED comes before RESUME, whether it went well or not.
  Outcome<void> follow(bool ran) {
    std::optional<microseconds> stopped, resumed;
    std::optional<Outcome<void>> end;
    auto patience = milliseconds(kForever);
    while (!end || (ran && !resumed)) {
      const auto e = TRY(qmp_->event(patience));
      if (!e) break;
      if (e->name == "STOP" && !stopped) stopped = e->when;
      if (e->name == "RESUME") resumed = e->when;
      if (e->name != "DUMP_COMPLETED") continue;
      const Json result = e->data.value("result", Json::object());
      if (result.value("status", "") == "completed")
        end = Outcome<void>();
      else
        end = trouble(
            fmt::format("QEMU could not write the dump: {}", e->data.value("error", "no reason given")));
      patience = kResume;
    }
    if (stopped && resumed) stood_still_ = std::chrono::duration_cast<milliseconds>(*resumed - *stopped);
    return *end;
  }

  std::string socket_;
  std::unique_ptr<Qmp> qmp_;
  Descriptor writing_end_;
  std::optional<milliseconds> stood_still_;
  std::optional<Clock::time_point> last_moment_;
};

}  // namespace

Outcome<std::shared_ptr<Host>> connect_qmp(const std::string& socket) {
  return std::make_shared<QmpHost>(socket, TRY(Qmp::connect(socket)));
}

}  // namespace unhang::app::capture
