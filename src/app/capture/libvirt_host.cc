// A machine that libvirt manages.
#include "app/capture/host.h"
#include "app/capture/libvirt_events.h"
#include "app/capture/libvirt_library.h"
#include "app/capture/named_pipe.h"
#include "base/format.h"

namespace unhang::app::capture {

namespace {

constexpr milliseconds kEventPatience(3000);

struct Form {
  const char* name;
  int libvirt;  // -1: not the memory alone, but the stream that migration sends
};
// libvirt does not tell what its QEMU offers, but refuses the others before it touches the guest.
constexpr Form kForms[] = {{"elf", VIR_DOMAIN_CORE_DUMP_FORMAT_RAW},
                           {"kdump-snappy", VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_SNAPPY},
                           {"kdump-lzo", VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_LZO},
                           {"kdump-zlib", VIR_DOMAIN_CORE_DUMP_FORMAT_KDUMP_ZLIB},
                           {"win-dmp", VIR_DOMAIN_CORE_DUMP_FORMAT_WIN_DMP},
                           {"migration", -1}};

const char* state_name(int state) {
  switch (state) {
    case VIR_DOMAIN_RUNNING:
      return "running";
    case VIR_DOMAIN_BLOCKED:
      return "blocked";
    case VIR_DOMAIN_PAUSED:
      return "paused";
    case VIR_DOMAIN_SHUTDOWN:
      return "shutting down";
    case VIR_DOMAIN_SHUTOFF:
      return "shut off";
    case VIR_DOMAIN_CRASHED:
      return "crashed";
    case VIR_DOMAIN_PMSUSPENDED:
      return "suspended";
    default:
      return "in no known state";
  }
}

class LibvirtHost : public Host {
 public:
  LibvirtHost(const LibvirtLibrary& library, std::string uri)
      : lib_(library), uri_(std::move(uri)), events_(library) {}

  ~LibvirtHost() override {
    events_.unwatch();
    if (domain_ != nullptr) lib_.virDomainFree(domain_);
    if (connection_ != nullptr) lib_.virConnectClose(connection_);
  }

  Outcome<void> open(const std::string& domain) {
    connection_ = lib_.virConnectOpenAuth(uri_.c_str(), lib_.auth, 0);
    if (connection_ == nullptr) return failed(uri_);
    // In virsh's order.
    if (domain.size() < 9 && domain.find_first_not_of("0123456789") == domain.npos)
      domain_ = lib_.virDomainLookupByID(connection_, std::stoi(domain));
    if (domain_ == nullptr) domain_ = lib_.virDomainLookupByUUIDString(connection_, domain.c_str());
    if (domain_ == nullptr) domain_ = lib_.virDomainLookupByName(connection_, domain.c_str());
    if (domain_ == nullptr)
      return mistake(
          fmt::format("{}: no such domain at {} (`virsh -c {} list --all` shows them)", domain, uri_, uri_));
    events_.watch(connection_, domain_);
    return {};
  }

  std::string name() const override { return "libvirt, " + uri_; }

  Outcome<Guest> look() override {
    virDomainInfo info{};
    int state = 0, reason = 0;
    if (lib_.virDomainGetInfo(domain_, &info) != 0 ||
        lib_.virDomainGetState(domain_, &state, &reason, 0) != 0)
      return failed(uri_);
    const bool live = state != VIR_DOMAIN_SHUTOFF && state != VIR_DOMAIN_SHUTDOWN;
    if (!live)
      return gone(fmt::format("{} is {}: nothing is left in its memory", lib_.virDomainGetName(domain_),
                              state_name(state)),
                  false);
    return Guest{.name = lib_.virDomainGetName(domain_),
                 .memory = u64{info.maxMem} << 10,
                 .running = state == VIR_DOMAIN_RUNNING || state == VIR_DOMAIN_BLOCKED,
                 .held = state == VIR_DOMAIN_PAUSED &&
                         (reason == VIR_DOMAIN_PAUSED_DUMP || reason == VIR_DOMAIN_PAUSED_SAVE ||
                          reason == VIR_DOMAIN_PAUSED_MIGRATION || reason == VIR_DOMAIN_PAUSED_UNKNOWN),
                 .state = state_name(state)};
  }

  Outcome<std::vector<std::string>> formats() override {
    std::vector<std::string> names;
    for (const Form& f : kForms) names.push_back(f.name);
    return names;
  }

  Outcome<Descriptor> open_pipe() override {
    pipe_.emplace(TRY(NamedPipe::make()));
    dump_to_ = pipe_->path();
    return pipe_->open();
  }

  // VIR_DUMP_LIVE leaves the pause to QEMU: it stops the guest for exactly as long as it writes, and for the
  // migration stream only while it writes the end.
  Outcome<void> dump(const std::string& format) override {
    events_.forget();
    for (const Form& f : kForms) {
      if (format != f.name) continue;
      const int status = f.libvirt < 0 ? lib_.virDomainCoreDump(domain_, dump_to_.c_str(), VIR_DUMP_LIVE)
                                       : lib_.virDomainCoreDumpWithFormat(
                                             domain_, dump_to_.c_str(), static_cast<unsigned>(f.libvirt),
                                             VIR_DUMP_LIVE | VIR_DUMP_MEMORY_ONLY);
      if (status != 0) return failed(uri_);
      return {};
    }
    return mistake(fmt::format("libvirt has no format {}", format));
  }

  std::optional<milliseconds> stood_still() override { return events_.stood_still(kEventPatience); }

  void forget_name() override { pipe_->remove(); }

  Outcome<void> let_run() override {
    if (lib_.virDomainResume(domain_) != 0) return failed(uri_);
    return {};
  }

 private:
  // libvirt's sentence, with what to do where that is known.
  std::unexpected<Failure> failed(const std::string& subject) const {
    const virErrorPtr e = lib_.virGetLastError();
    std::string said = e != nullptr && e->message != nullptr ? e->message : "it does not say why";
    while (said.ends_with('\n')) said.pop_back();
    const int code = e == nullptr ? 0 : e->code;
    // The second: QEMU 8.2's kdump-raw forms, where a libvirt prefers them, do not go through a pipe.
    const bool unsupported = said.find("unsupported dumpformat") != said.npos ||
                             said.find("seekable") != said.npos || code == VIR_ERR_NO_SUPPORT;
    std::string advice;
    if (code == VIR_ERR_AUTH_FAILED || code == VIR_ERR_AUTH_CANCELLED || code == VIR_ERR_AUTH_UNAVAILABLE ||
        code == VIR_ERR_ACCESS_DENIED || code == VIR_ERR_OPERATION_DENIED ||
        (connection_ == nullptr && said.find("Permission denied") != said.npos))
      advice = ": run it as root or as a member of the group libvirt";
    else if (connection_ == nullptr && said.find("No such file") != said.npos)
      advice = ": is libvirtd (or virtqemud) running?";
    else if (pipe_ && (unsupported || said.find("ermission denied") != said.npos))
      advice = fmt::format(
          ": `virsh -c {} dump --memory-only --live {} FILE` writes a file that this program reads as well",
          uri_, lib_.virDomainGetName(domain_));
    return std::unexpected(Failure{.sentence = fmt::format("{}: {}{}", subject, said, advice),
                                   .machine = false,
                                   .not_offered = unsupported});
  }

  const LibvirtLibrary& lib_;
  std::string uri_;
  LibvirtEvents events_;
  virConnectPtr connection_ = nullptr;
  virDomainPtr domain_ = nullptr;
  std::optional<NamedPipe> pipe_;
  std::string dump_to_;  // its name, which stays what it was when the pipe has lost it
};

// qemu+ssh://host/system, qemu://host/system: the dump would be made there.
bool is_remote(const std::string& uri) {
  const size_t authority = uri.find("://");
  return authority != uri.npos && authority + 3 < uri.size() && uri[authority + 3] != '/';
}

}  // namespace

Outcome<std::shared_ptr<Host>> connect_libvirt(const std::string& uri, const std::string& domain) {
  if (is_remote(uri))
    return mistake(fmt::format("{}: that is another machine; run unhang there, where the memory is", uri));
  auto host = std::make_shared<LibvirtHost>(*TRY(load_libvirt()), uri);
  TRY_VOID(host->open(domain));
  return host;
}

}  // namespace unhang::app::capture
