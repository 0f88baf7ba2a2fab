#include "app/capture/libvirt_events.h"

namespace unhang::app::capture {

namespace {

constexpr int kTickMs = 100;  // the loop looks at end_ that often

}  // namespace

LibvirtEvents::LibvirtEvents(const LibvirtLibrary& library) : lib_(library) {
  if (lib_.virEventRegisterDefaultImpl() != 0) return;
  timer_ = lib_.virEventAddTimeout(kTickMs, [](int, void*) {}, nullptr, nullptr);
  if (timer_ < 0) return;  // without it the loop could not be ended
  loop_ = std::thread([this] {
    while (!end_ && lib_.virEventRunDefaultImpl() == 0) {
    }
  });
}

LibvirtEvents::~LibvirtEvents() {
  end_ = true;
  if (loop_.joinable()) loop_.join();
  if (timer_ >= 0) lib_.virEventRemoveTimeout(timer_);
}

bool LibvirtEvents::watch(virConnectPtr connection, virDomainPtr domain) {
  if (!loop_.joinable()) return false;
  const virConnectDomainEventCallback noted = [](virConnectPtr, virDomainPtr, int event, int, void* self) {
    static_cast<LibvirtEvents*>(self)->note(event);
    return 0;
  };
  connection_ = connection;
  // What the header's macro VIR_DOMAIN_EVENT_CALLBACK does; by way of void (*)() compilers take it as meant.
  const auto any =
      reinterpret_cast<virConnectDomainEventGenericCallback>(reinterpret_cast<void (*)()>(noted));
  callback_ = lib_.virConnectDomainEventRegisterAny(connection, domain, VIR_DOMAIN_EVENT_ID_LIFECYCLE, any,
                                                    this, nullptr);
  return callback_ >= 0;
}

void LibvirtEvents::unwatch() {
  if (callback_ >= 0) lib_.virConnectDomainEventDeregisterAny(connection_, callback_);
  callback_ = -1;
}

void LibvirtEvents::forget() {
  const std::lock_guard lock(mutex_);
  stopped_.reset();
  resumed_.reset();
}

void LibvirtEvents::note(int event) {
  const std::lock_guard lock(mutex_);
  if (event == VIR_DOMAIN_EVENT_SUSPENDED && !stopped_) stopped_ = Clock::now();
  if (event == VIR_DOMAIN_EVENT_RESUMED) resumed_ = Clock::now();
  changed_.notify_all();
}

std::optional<milliseconds> LibvirtEvents::stood_still(milliseconds patience) {
  std::unique_lock lock(mutex_);
  if (callback_ < 0) return std::nullopt;
  changed_.wait_for(lock, patience, [this] { return stopped_ && resumed_; });
  if (!stopped_ || !resumed_) return std::nullopt;
  return std::chrono::duration_cast<milliseconds>(*resumed_ - *stopped_);
}

}  // namespace unhang::app::capture
