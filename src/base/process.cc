#include "base/process.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace unhang {

namespace {

constexpr rlim_t kCpuSeconds = 120;
constexpr rlim_t kMemory = rlim_t{4} << 30;

std::unexpected<Error> io_error(const char* what) {
  return fail(Error{.why = Why::io, .detail = what, .os_error = errno});
}

// Between fork and exec only async-signal-safe calls are allowed; these are.
[[noreturn]] void child(const std::vector<char*>& argv, int out, int err) {
  const rlimit cpu{kCpuSeconds, kCpuSeconds}, memory{kMemory, kMemory};
  setrlimit(RLIMIT_CPU, &cpu);
  setrlimit(RLIMIT_AS, &memory);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  execv(argv[0], argv.data());
  _exit(127);
}

}  // namespace

Result<ProcessResult> run_process(const std::vector<std::string>& args, u64 most) {
  std::vector<char*> argv;
  for (const std::string& a : args) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) return io_error("cannot make a pipe");
  const pid_t pid = fork();
  if (pid < 0) return io_error("cannot start a helper program");
  if (pid == 0) child(argv, out[1], err[1]);
  close(out[1]);
  close(err[1]);

  ProcessResult result;
  std::string errors;
  bool too_much = false;
  std::array<pollfd, 2> fds{{{out[0], POLLIN, 0}, {err[0], POLLIN, 0}}};
  std::vector<u8> buffer(1 << 16);
  while (fds[0].fd >= 0 || fds[1].fd >= 0) {
    if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) break;
    for (pollfd& f : fds) {
      if (f.fd < 0 || f.revents == 0) continue;
      const ssize_t n = read(f.fd, buffer.data(), buffer.size());
      if (n <= 0) {
        close(f.fd);
        f.fd = -1;
      } else if (&f == &fds[0]) {
        if (result.output.size() + static_cast<size_t>(n) > most) too_much = true;
        if (!too_much) result.output.insert(result.output.end(), buffer.begin(), buffer.begin() + n);
      } else if (errors.size() < 4096) {
        errors.append(reinterpret_cast<const char*>(buffer.data()), static_cast<size_t>(n));
      }
    }
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.message = errors.substr(0, errors.find('\n'));
  if (too_much) return fail(Error{.why = Why::limit, .detail = "a helper program wrote too much"});
  if (result.status == 127) return fail(Error{.why = Why::io, .detail = "cannot run a helper program"});
  return result;
}

std::string program_directory() {
  std::array<char, 4096> path{};
  const ssize_t n = readlink("/proc/self/exe", path.data(), path.size() - 1);
  const std::string s(path.data(), n > 0 ? static_cast<size_t>(n) : 0);
  return s.substr(0, s.find_last_of('/'));
}

}  // namespace unhang
