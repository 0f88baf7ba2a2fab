#include "base/node.h"

#include "base/check.h"

namespace unhang {

namespace {
const Node kNull;
const Node::Map kNoMembers;
const Node::List kNoItems;
}  // namespace

Node& Node::operator[](std::string_view key) {
  if (is_null()) value_ = Map{};
  UNHANG_CHECK(is_map());
  Map& map = std::get<Map>(value_);
  for (auto& [k, v] : map)
    if (k == key) return v;
  map.emplace_back(std::string(key), Node());
  return map.back().second;
}

const Node* Node::find(std::string_view key) const {
  const Map* map = std::get_if<Map>(&value_);
  if (map == nullptr) return nullptr;
  for (const auto& [k, v] : *map)
    if (k == key) return &v;
  return nullptr;
}

const Node& Node::get(std::string_view key) const {
  const Node* n = find(key);
  return n == nullptr ? kNull : *n;
}

const Node::Map& Node::members() const {
  const Map* map = std::get_if<Map>(&value_);
  return map == nullptr ? kNoMembers : *map;
}

Node& Node::add(Node item) {
  if (is_null()) value_ = List{};
  UNHANG_CHECK(is_list());
  List& list = std::get<List>(value_);
  list.push_back(std::move(item));
  return list.back();
}

const Node::List& Node::items() const {
  const List* list = std::get_if<List>(&value_);
  return list == nullptr ? kNoItems : *list;
}

size_t Node::size() const {
  if (is_list()) return items().size();
  if (is_map()) return members().size();
  return 0;
}

bool Node::as_bool(bool otherwise) const {
  const bool* v = std::get_if<bool>(&value_);
  return v == nullptr ? otherwise : *v;
}

u64 Node::as_u64(u64 otherwise) const {
  if (const u64* v = std::get_if<u64>(&value_)) return *v;
  if (const i64* v = std::get_if<i64>(&value_)) return static_cast<u64>(*v);
  if (const VirtAddr* v = std::get_if<VirtAddr>(&value_)) return v->value();
  return otherwise;
}

i64 Node::as_i64(i64 otherwise) const {
  if (const i64* v = std::get_if<i64>(&value_)) return *v;
  if (const u64* v = std::get_if<u64>(&value_)) return static_cast<i64>(*v);
  return otherwise;
}

double Node::as_real(double otherwise) const {
  if (const double* v = std::get_if<double>(&value_)) return *v;
  if (const u64* v = std::get_if<u64>(&value_)) return static_cast<double>(*v);
  if (const i64* v = std::get_if<i64>(&value_)) return static_cast<double>(*v);
  return otherwise;
}

VirtAddr Node::as_address() const {
  const VirtAddr* v = std::get_if<VirtAddr>(&value_);
  return v == nullptr ? VirtAddr() : *v;
}

std::string_view Node::as_text(std::string_view otherwise) const {
  const std::string* v = std::get_if<std::string>(&value_);
  return v == nullptr ? otherwise : std::string_view(*v);
}

}  // namespace unhang
