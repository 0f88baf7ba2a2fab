// The user's own command as a probe.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "app/capture/descriptor.h"
#include "app/capture/probe.h"
#include "app/interrupt.h"
#include "base/format.h"

namespace unhang::app::capture {

namespace {

constexpr milliseconds kGrace(500);  // from SIGTERM to SIGKILL

// Between fork and exec only async-signal-safe calls are allowed; these are.
[[noreturn]] void child(const char* command) {
  prctl(PR_SET_PDEATHSIG, SIGTERM);  // should we be killed
  setpgid(0, 0);                     // Ctrl-C is for us; and we end the command with all that it starts
  for (const int s : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) ::signal(s, SIG_DFL);
  const int nothing = open("/dev/null", O_RDWR);
  dup2(nothing, STDIN_FILENO);
  dup2(nothing, STDOUT_FILENO);
  dup2(nothing, STDERR_FILENO);
  execl("/bin/sh", "sh", "-c", command, static_cast<char*>(nullptr));
  _exit(127);
}

class ShellProbe : public Probe {
 public:
  explicit ShellProbe(std::string command) : command_(std::move(command)) {}
  ~ShellProbe() override { stop(); }

  std::string name() const override { return command_; }

  Outcome<void> start() override {
    pid_ = fork();
    if (pid_ < 0) return trouble(fmt::format("cannot start the probe: {}", std::strerror(errno)));
    if (pid_ == 0) child(command_.c_str());
    setpgid(pid_, pid_);  // whoever of the two comes first
    // A descriptor that becomes readable at its end (Linux 5.3).
    ended_ = Descriptor(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    if (!ended_) return trouble(fmt::format("cannot watch the probe: {}", std::strerror(errno)));
    return {};
  }

  Outcome<std::optional<ProbeEnd>> wait(milliseconds time) override {
    if (!wait_for_end(time, true)) return std::nullopt;
    int status = 0;
    waitpid(pid_, &status, 0);
    pid_ = -1;
    if (WIFSIGNALED(status))
      return ProbeEnd{fmt::format("ended by a signal, {}", strsignal(WTERMSIG(status)))};
    const int code = WEXITSTATUS(status);
    if (code == 127) return mistake(fmt::format("the shell cannot run the probe: {}", command_));
    return code == 0 ? ProbeEnd{"done", true} : ProbeEnd{fmt::format("exit status {}", code)};
  }

  void stop() override {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGTERM);
    wait_for_end(kGrace, false);
    ::kill(-pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  bool wait_for_end(milliseconds time, bool heed_signals) const {
    const auto end = Clock::now() + time;
    while (true) {
      if (heed_signals && Interrupt::signal() != 0) return false;
      const auto left = std::max<long long>(0, std::chrono::ceil<milliseconds>(end - Clock::now()).count());
      pollfd p[] = {{ended_.get(), POLLIN, 0}, {heed_signals ? Interrupt::descriptor() : -1, POLLIN, 0}};
      poll(p, 2, static_cast<int>(std::min<long long>(left, 3'600'000)));
      if (p[0].revents != 0) return true;
      if (left == 0) return false;
    }
  }

  std::string command_;
  pid_t pid_ = -1;
  Descriptor ended_;
};

}  // namespace

std::unique_ptr<Probe> shell_probe(const std::string& command) {
  return std::make_unique<ShellProbe>(command);
}

}  // namespace unhang::app::capture
