// Node: the answer tree. Every analysis and every command returns one; text, JSON and HTML are renderings of
// it, so what a person reads and what a script parses cannot differ.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/types.h"

namespace unhang {

class Node {
 public:
  using List = std::vector<Node>;
  using Member = std::pair<std::string, Node>;
  using Map = std::vector<Member>;  // keeps the order of insertion: it is the order of the report

  Node() = default;  // null
  Node(bool value) : value_(value) {}
  Node(i32 value) : value_(i64{value}) {}
  Node(u32 value) : value_(u64{value}) {}
  Node(i64 value) : value_(value) {}
  Node(u64 value) : value_(value) {}
  Node(double value) : value_(value) {}
  Node(const char* value) : value_(std::string(value)) {}
  Node(std::string_view value) : value_(std::string(value)) {}
  Node(std::string value) : value_(std::move(value)) {}
  Node(VirtAddr value) : value_(value) {}

  static Node list() { return Node(Value(List{})); }
  static Node map() { return Node(Value(Map{})); }
  // A map that a shape of that name knows how to print (see report/). The name is not part of the data.
  static Node shaped(const char* shape) {
    Node n = map();
    n.shape_ = shape;
    return n;
  }

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_list() const { return std::holds_alternative<List>(value_); }
  bool is_map() const { return std::holds_alternative<Map>(value_); }
  bool is_text() const { return std::holds_alternative<std::string>(value_); }
  bool is_address() const { return std::holds_alternative<VirtAddr>(value_); }
  const char* shape() const { return shape_; }
  Node& set_shape(const char* shape) {
    shape_ = shape;
    return *this;
  }

  // Map access. operator[] adds a null member when there is none and turns a null node into a map.
  Node& operator[](std::string_view key);
  const Node* find(std::string_view key) const;
  // The member, or a null node: for rendering, where "not there" and "null" look alike.
  const Node& get(std::string_view key) const;
  const Map& members() const;

  // List access. add() turns a null node into a list.
  Node& add(Node item);
  const List& items() const;
  size_t size() const;
  bool empty() const { return size() == 0; }

  // Scalar access with the value that a renderer shows when the node is something else.
  bool as_bool(bool otherwise = false) const;
  u64 as_u64(u64 otherwise = 0) const;
  i64 as_i64(i64 otherwise = 0) const;
  double as_real(double otherwise = 0) const;
  VirtAddr as_address() const;
  std::string_view as_text(std::string_view otherwise = {}) const;

  template <class Visitor>
  decltype(auto) visit(Visitor&& visitor) const {
    return std::visit(std::forward<Visitor>(visitor), value_);
  }

  friend bool operator==(const Node& a, const Node& b) { return a.value_ == b.value_; }

 private:
  using Value = std::variant<std::monostate, bool, i64, u64, double, std::string, VirtAddr, List, Map>;
  explicit Node(Value value) : value_(std::move(value)) {}

  Value value_;
  const char* shape_ = nullptr;
};

}  // namespace unhang
