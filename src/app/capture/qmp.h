// QEMU's machine protocol on a unix socket: one JSON document a line, answers and events mixed.
// https://www.qemu.org/docs/master/interop/qmp-spec.html
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "app/capture/descriptor.h"
#include "app/capture/duration.h"
#include "app/capture/failure.h"

namespace unhang::app::capture {

class Qmp {
 public:
  using Json = nlohmann::json;
  struct Event {
    std::string name;
    Json data;
    std::chrono::microseconds when{};  // by QEMU's clock
  };

  static Outcome<std::unique_ptr<Qmp>> connect(const std::string& path);

  // Asked several times a second while somebody waits; false ends the wait with a Failure.
  std::function<bool()> keep_waiting;

  // The answer. A descriptor travels with the command.
  Outcome<Json> command(const std::string& name, const Json& arguments = Json::object(),
                        milliseconds patience = std::chrono::seconds(30), int descriptor = -1);
  // The next event; nothing when none comes in time.
  Outcome<std::optional<Event>> event(milliseconds patience);

 private:
  Outcome<void> send(const std::string& line, int descriptor);
  // The next answer or greeting; events go to the queue. Nothing when the time is over (or an event came,
  // when `events` are what the caller waits for).
  Outcome<std::optional<Json>> receive(Clock::time_point end, bool events);

  Descriptor socket_;
  std::string unread_;
  std::deque<Event> events_;
};

}  // namespace unhang::app::capture
