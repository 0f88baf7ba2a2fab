// Where dumps outside of the project lie, and how they are opened.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>

#include "app/session.h"
#include "app/views/view.h"
#include "base/xz.h"
#include "report/json.h"

namespace unhang::real {

using Json = nlohmann::json;

inline std::filesystem::path data() {
  return std::filesystem::path(UNHANG_SOURCE_DIR) / ".." / "shared" / "data";
}

inline std::vector<u8> unpacked(const std::filesystem::path& path) {
  const auto file = File::open(path.string());
  if (!file) return {};
  auto bytes = unpack_xz((*file)->bytes(), u64{1} << 30);
  return bytes ? std::move(*bytes) : std::vector<u8>();
}

// Null with a test failure when the dump does not open.
inline std::unique_ptr<app::Session> open(std::shared_ptr<const File> file,
                                          const std::vector<std::string>& symbols) {
  auto dump = dump::open_dump(std::move(file));
  if (!dump) {
    ADD_FAILURE() << text(dump.error());
    return nullptr;
  }
  nt::TargetOptions options;
  options.symbol_paths = symbols;
  auto target = nt::Target::open(std::move(*dump), options);
  if (!target) {
    ADD_FAILURE() << text(target.error());
    return nullptr;
  }
  return std::make_unique<app::Session>(std::move(*target));
}

inline Json analyse(app::Session& session) {
  const diagnose::Diagnosis d = diagnose::diagnose(session.world(), {});
  return Json::parse(report::to_json(app::analysis_node(session, d, {})));
}

#define UNHANG_NEEDS(path)                  \
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "SKIPPED: " << (path) << " is not there"

}  // namespace unhang::real
