#include "report/json.h"

#include <nlohmann/json.hpp>

#include "base/format.h"

namespace unhang::report {

namespace {

using Json = nlohmann::ordered_json;

Json convert(const Node& node) {
  return node.visit([](const auto& v) -> Json {
    using T = std::decay_t<decltype(v)>;
    if constexpr (std::is_same_v<T, std::monostate>) {
      return nullptr;
    } else if constexpr (std::is_same_v<T, VirtAddr>) {
      return hex(v);
    } else if constexpr (std::is_same_v<T, Node::List>) {
      Json list = Json::array();
      for (const Node& item : v) list.push_back(convert(item));
      return list;
    } else if constexpr (std::is_same_v<T, Node::Map>) {
      Json map = Json::object();
      // Keys are unique in a Node: no need for the library to look for an equal one each time.
      auto& members = map.get_ref<Json::object_t&>();
      for (const auto& [key, value] : v)
        static_cast<std::vector<std::pair<const std::string, Json>>&>(members).emplace_back(key,
                                                                                            convert(value));
      return map;
    } else {
      return v;
    }
  });
}

}  // namespace

std::string to_json(const Node& node) {
  return convert(node).dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace unhang::report
