#include "app/interrupt.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

namespace unhang::app {

namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
volatile sig_atomic_t came = 0;
int ends[2] = {-1, -1};

extern "C" void note(int number) {
  const int error = errno;
  came = number;
  if (write(ends[1], "", 1) < 0) errno = error;
}

}  // namespace

Interrupt::Interrupt() {
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) return;
  struct sigaction a{};
  a.sa_handler = note;
  a.sa_flags = static_cast<int>(SA_RESETHAND);
  for (const int s : kSignals) {
    struct sigaction old{};
    // Under nohup the user has said that a hang-up is none of our business.
    if (sigaction(s, nullptr, &old) == 0 && old.sa_handler != SIG_IGN) sigaction(s, &a, nullptr);
  }
  ::signal(SIGPIPE, SIG_IGN);
}

Interrupt::~Interrupt() {
  struct sigaction old{};
  for (const int s : kSignals)
    if (sigaction(s, nullptr, &old) == 0 && old.sa_handler == note) ::signal(s, SIG_DFL);
  ::signal(SIGPIPE, SIG_DFL);
  for (int& e : ends) {
    close(e);
    e = -1;
  }
}

int Interrupt::signal() {
  return came;
}

int Interrupt::descriptor() {
  return ends[0];
}

bool Interrupt::sleep(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (came == 0) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
    if (left <= 0) return true;
    pollfd p{ends[0], POLLIN, 0};
    poll(&p, 1, static_cast<int>(left < 3'600'000 ? left : 3'600'000));
  }
  return false;
}

}  // namespace unhang::app
