// A made machine opened as the program opens a dump.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>

#include "app/session.h"
#include "app/views/view.h"
#include "report/json.h"
#include "synth/machine.h"

namespace unhang::synth {

// Null with a test failure when the dump does not open.
inline std::unique_ptr<app::Session> open_session(dump::DumpFile dump) {
  auto target = nt::Target::open(std::move(dump), {});
  if (!target) {
    ADD_FAILURE() << text(target.error());
    return nullptr;
  }
  return std::make_unique<app::Session>(std::move(*target));
}

// The whole report, as `unhang analyze --json` writes it.
inline std::string report(app::Session& session) {
  const diagnose::Diagnosis d = diagnose::diagnose(session.world(), {});
  return report::to_json(app::analysis_node(session, d, {}));
}

}  // namespace unhang::synth
