// Requests that threads wait for, by the device where they lie: what the rules about storage and about other
// machines begin with.
#pragma once

#include <functional>
#include <map>

#include "diagnose/rule.h"
#include "waits/io_class.h"

namespace unhang::diagnose {

struct Pending {
  VirtAddr thread{};
  const IrpNode* irp = nullptr;
  u64 waited_ms = 0;
  Confidence confidence = Confidence::exact;
  std::vector<VirtAddr> behind;
  // A disk answers in milliseconds, a bad one in a second; Windows' own time-out for disks is 60 s. With
  // threads queued behind a lock the limit is lower: the lock is held for as long as the request takes.
  bool is_long() const { return waited_ms >= (behind.empty() ? 5000u : 2000u); }
};

// The requests at one device; of disks, at one stack of devices.
struct PendingAt {
  std::string driver, device;     // where the first of them lies
  std::string bottom;             // of disks: the driver of the lowest device of the stack
  std::vector<Pending> requests;  // those with the most threads behind them first
  std::string where() const;      // "\Driver\disk (\Device\Harddisk0\DR0) above \Driver\vioscsi"
};

// Devices with requests that somebody waits for, of the classes that `counts` accepts.
std::vector<PendingAt> pending_io(const Context& context,
                                  const std::function<bool(const ThreadNode&, const IrpNode&)>& counts);

// Requests at disks, file systems and the filters between them; at drivers of unknown kind those that hold
// up others.
std::vector<PendingAt> disk_requests(const Context& context);

// Whether a write has waited long there: nothing that is dirty becomes clean.
bool writes_stall(const PendingAt& at);

// A finding about the requests at one device, without title and advice. Nothing when none has waited long.
std::optional<Finding> finding_about(const Context& context, const PendingAt& at, const char* rule);

}  // namespace unhang::diagnose
