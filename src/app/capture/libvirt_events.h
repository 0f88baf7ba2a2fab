// When libvirt says that a domain stopped and ran again. Its events carry no time: theirs is that of arrival.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>

#include "app/capture/duration.h"
#include "app/capture/libvirt_library.h"

namespace unhang::app::capture {

class LibvirtEvents {
 public:
  // Before the connection is opened: it takes the event loop that it finds.
  explicit LibvirtEvents(const LibvirtLibrary& library);
  ~LibvirtEvents();
  LibvirtEvents(const LibvirtEvents&) = delete;

  // False where the host sends none; then there will be no times.
  bool watch(virConnectPtr connection, virDomainPtr domain);
  void unwatch();

  void forget();
  // From the first stop since forget() to the last resumption, for which it waits a little.
  std::optional<milliseconds> stood_still(milliseconds patience);

 private:
  void note(int event);

  const LibvirtLibrary& lib_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::optional<Clock::time_point> stopped_, resumed_;
  virConnectPtr connection_ = nullptr;
  int callback_ = -1, timer_ = -1;
  std::atomic<bool> end_ = false;
  std::thread loop_;
};

}  // namespace unhang::app::capture
