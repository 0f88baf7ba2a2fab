#include "app/capture/take.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <future>
#include <thread>

#include "app/command.h"
#include "app/interrupt.h"
#include "app/progress_line.h"
#include "base/format.h"
#include "dump/writers/output_file.h"

namespace unhang::app::capture {

namespace {

constexpr size_t kBuffer = 1 << 20;
constexpr u64 kBlock = 4096;  // of file systems: what a hole is made of
constexpr std::chrono::seconds kLastPatience(40);
constexpr milliseconds kSilence(10'000), kMoment(200);

// The dump holds all that is in the guest's memory: keys, passwords. Its owner may read it.
class PrivateFiles {
 public:
  PrivateFiles() : before_(umask(077)) {}
  ~PrivateFiles() { umask(before_); }
  PrivateFiles(const PrivateFiles&) = delete;

 private:
  mode_t before_;
};

// The host's work in a thread of its own. When it never ends (a daemon that hangs) the thread is left behind.
class Work {
 public:
  Work(std::shared_ptr<Host> host, const std::string& format)
      : done_(std::make_shared<Descriptor>(eventfd(0, EFD_CLOEXEC))) {
    std::packaged_task<Outcome<void>()> task([host, format] { return host->dump(format); });
    result_ = task.get_future();
    std::thread([task = std::move(task), done = done_]() mutable {
      task();
      eventfd_write(done->get(), 1);
    }).detach();
  }
  int descriptor() const { return done_->get(); }
  bool ended(milliseconds patience) const { return result_.wait_for(patience) == std::future_status::ready; }
  Outcome<void> result() { return result_.get(); }

 private:
  std::shared_ptr<Descriptor> done_;
  std::future<Outcome<void>> result_;
};

// Writes what comes, and leaves holes for zeros: less to write is a shorter pause.
class Sink {
 public:
  explicit Sink(const dump::OutputFile& file) : file_(file) {}
  u64 size() const { return size_; }

  Result<void> take(std::span<const u8> bytes) {
    while (!bytes.empty()) {
      // To the next block's border, so that holes are whole blocks however the bytes arrive.
      const auto piece = bytes.first(std::min<u64>(bytes.size(), kBlock - size_ % kBlock));
      const bool zero = std::all_of(piece.begin(), piece.end(), [](u8 b) { return b == 0; });
      if (!zero && begun_ == nullptr) begun_ = piece.data(), begun_at_ = size_;
      if (zero) TRY_VOID(flush(piece.data()));
      size_ += piece.size();
      bytes = bytes.subspan(piece.size());
      if (bytes.empty()) TRY_VOID(flush(piece.data() + piece.size()));
    }
    return {};
  }

 private:
  Result<void> flush(const u8* end) {
    if (begun_ == nullptr) return {};
    const std::span<const u8> run(begun_, end);
    begun_ = nullptr;
    return file_.write(begun_at_, run);
  }

  const dump::OutputFile& file_;
  u64 size_ = 0, begun_at_ = 0;
  const u8* begun_ = nullptr;
};

std::unexpected<Failure> interrupted() {
  return trouble(fmt::format("ended by a signal ({})", strsignal(Interrupt::signal())));
}

// Until the host has closed the other end, or says that there will be nothing.
Outcome<void> drain(int pipe, Host& host, const Work& work, Sink& sink, u64 expected) {
  std::vector<u8> buffer(kBuffer);
  const Progress progress = progress_line();
  bool said = false;
  while (true) {
    pollfd p[] = {{pipe, POLLIN, 0}, {Interrupt::descriptor(), POLLIN, 0}, {work.descriptor(), POLLIN, 0}};
    const int came = poll(p, std::size(p), static_cast<int>(kSilence.count()));
    if (came < 0 && errno != EINTR) return trouble(std::strerror(errno));
    if (came == 0 && !said && sink.size() == 0) {
      said = true;
      complain(
          "QEMU has not begun to write. It waits for the guest's disk requests first: storage that hangs?");
    }
    if (Interrupt::signal() != 0) return interrupted();
    if (p[0].revents != 0) {
      const ssize_t n = read(pipe, buffer.data(), buffer.size());
      if (n < 0 && errno != EAGAIN && errno != EINTR) return trouble(std::strerror(errno));
      if (n == 0) return {};
      if (n < 0) continue;
      if (sink.size() == 0) host.forget_name();
      const auto written = sink.take(std::span<const u8>(buffer.data(), static_cast<size_t>(n)));
      if (!written) return trouble(text(written.error()));
      if (progress) progress({.what = "capturing", .done = sink.size(), .total = expected});
    } else if (p[2].revents != 0) {
      return {};
    }
  }
}

// A daemon that opens a named pipe without a reader sleeps for good, with the guest's lock in its hand
// (libvirt 9: `virsh list` hung too). So the name goes first, and who has looked it up already still finds a
// reader for a moment.
void close_pipe(Descriptor& pipe, Host& host, const Work& work) {
  host.forget_name();
  work.ended(kMoment);
  pipe.reset();
}

// Until the host has said its last word, or is not likely to say one. Whoever interrupts the wait does not
// want the dump.
void finish(Host& host, const Work& work, bool failed) {
  while (!failed && !work.ended(kMoment)) failed = Interrupt::signal() != 0;
  if (!failed) return;
  host.abandon();
  work.ended(kLastPatience);
}

Failure about(const std::string& path, Failure f) {
  f.sentence = fmt::format("{}: {} (no file is left)", path, f.sentence);
  return f;
}

// After a dump, good or not. The host should have seen to it.
Outcome<void> see_that_it_runs(Host& host, const Guest& before) {
  if (!before.running) return {};
  for (int tries = 0; tries < 20; tries++) {
    const Guest now = TRY(host.look());
    // Stopped by itself meanwhile (a panic, a disk error)? Then it is not for us to go on.
    if (now.running || !now.held) return {};
    std::this_thread::sleep_for(milliseconds(50));  // a daemon hears of it a little later
  }
  return host.let_run();
}

Outcome<Taken> take(const std::shared_ptr<Host>& host, const std::string& format, const std::string& path) {
  const PrivateFiles mask;
  auto file = dump::OutputFile::create(path);
  if (!file) return mistake(fmt::format("{}: {}", path, text(file.error())));
  const auto before = TRY(host->look());
  Taken t{.path = path, .format = format, .before = before};
  Descriptor pipe = TRY(host->open_pipe());
  if (Interrupt::signal() != 0) {
    host->forget_name();
    return interrupted();
  }
  fcntl(pipe.get(), F_SETPIPE_SZ, kBuffer);  // where the kernel allows it
  const auto begun = Clock::now();
  Work work(host, format);
  Sink sink(*file);
  const auto drained = drain(pipe.get(), *host, work, sink, t.before.memory);
  close_pipe(pipe, *host, work);
  finish(*host, work, !drained);
  if (!work.ended(milliseconds(0)))
    return trouble("the host does not answer; when it does, it drops the dump and lets the guest run");
  const Outcome<void> said = work.result();
  const auto runs = see_that_it_runs(*host, t.before);
  if (!runs && runs.error().gone)
    return trouble(fmt::format("the guest ended while it was dumped: {}", runs.error().sentence));
  if (!runs) return trouble(fmt::format("THE GUEST MAY NOT RUN AGAIN: {}", runs.error().sentence));
  // Asked last: whoever interrupts while the guest still stands does not want the dump.
  const Outcome<void> dumped = Interrupt::signal() != 0 ? interrupted() : said;
  for (const auto* failed : {&drained, &dumped})
    if (!*failed) return std::unexpected(about(path, failed->error()));
  if (sink.size() == 0) return trouble("the host says that it is done, and has written nothing");
  if (t.before.running) t.paused = host->stood_still();
  auto named = file->set_size(sink.size());
  if (named) named = file->commit();
  if (!named) return trouble(fmt::format("{}: {}", path, text(named.error())));
  t.took = since(begun);
  struct stat st{};
  if (stat(path.c_str(), &st) == 0)
    t.size = static_cast<u64>(st.st_size), t.on_disk = static_cast<u64>(st.st_blocks) * 512;
  return t;
}

}  // namespace

Outcome<Taken> take_dump(const std::shared_ptr<Host>& host, const std::vector<std::string>& formats,
                         const std::string& path) {
  Outcome<Taken> taken = mistake("no format is left to try");
  for (const std::string& format : formats) {
    taken = take(host, format, path);
    if (taken || !taken.error().not_offered) break;
  }
  return taken;
}

}  // namespace unhang::app::capture
