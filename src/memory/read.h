// Reading across pages. This is the one place that splits a read at page boundaries.
//
//   read_exact   all of it, or the error of the first byte that is missing
//   read_some    how many bytes from the start could be had, and why it ended
//   read_sparse  what there is, and a list of the holes; a missing page is never a page of zeros
#pragma once

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/source.h"

namespace unhang::memory {

// Calls piece(offset, data, size) for each stretch that is there and hole(offset, size, error) for each that
// is not; hole returns whether to go on.
template <class A, class Piece, class Hole>
void split(const Source<A>& source, A address, u64 size, Piece&& piece, Hole&& hole) {
  u64 done = 0;
  while (done < size) {
    const A at = address + done;
    // An address that wraps past the top of memory is nobody's byte.
    if (done != 0 && at < address) {
      hole(done, size - done, Error{.why = Why::bad_address});
      return;
    }
    Result<Slice> slice = source.at(at);
    if (slice && slice->size != 0) {
      const u64 n = std::min<u64>(slice->size, size - done);
      piece(done, slice->data, n);
      done += n;
    } else {
      const u64 n = std::min<u64>(at.left_in_page(), size - done);
      if (!hole(done, n, slice ? Error{.why = Why::not_in_dump} : slice.error())) return;
      done += n;
    }
  }
}

struct Some {
  u64 size = 0;   // bytes had, from the start
  Error error{};  // why it ended; meaningful when size is less than asked for
};

template <class A>
Some read_some(const Source<A>& source, A address, std::span<u8> out) {
  Some some;
  split(
      source, address, out.size(),
      [&](u64 at, const u8* data, u64 n) {
        std::memcpy(out.data() + at, data, n);
        some.size = at + n;
      },
      [&](u64, u64, const Error& e) {
        some.error = e;
        return false;
      });
  return some;
}

template <class A>
Result<void> read_exact(const Source<A>& source, A address, std::span<u8> out) {
  const Some some = read_some(source, address, out);
  if (some.size == out.size()) return {};
  return fail(some.error);
}

// A trivially copyable value.
template <class T, class A>
Result<T> read(const Source<A>& source, A address) {
  T value;
  const Result<void> r = read_exact(source, address, {reinterpret_cast<u8*>(&value), sizeof value});
  if (!r) return fail(r.error());
  return value;
}

struct Hole {
  u64 offset = 0;
  u64 size = 0;
  Error error{};
};

struct Sparse {
  std::vector<u8> bytes;    // zeros where a hole is
  std::vector<Hole> holes;  // in order
  bool has(u64 offset, u64 size) const {
    if (offset > bytes.size() || size > bytes.size() - offset) return false;
    for (const Hole& h : holes)
      if (offset < h.offset + h.size && h.offset < offset + size) return false;
    return true;
  }
};

template <class A>
Sparse read_sparse(const Source<A>& source, A address, u64 size) {
  Sparse sparse;
  sparse.bytes.resize(size);
  split(
      source, address, size,
      [&](u64 at, const u8* data, u64 n) { std::memcpy(sparse.bytes.data() + at, data, n); },
      [&](u64 at, u64 n, const Error& e) {
        if (!sparse.holes.empty() && sparse.holes.back().offset + sparse.holes.back().size == at &&
            sparse.holes.back().error.why == e.why)
          sparse.holes.back().size += n;
        else
          sparse.holes.push_back({at, n, e});
        return true;
      });
  return sparse;
}

// Bytes up to a NUL or the limit; stops at a hole. Never fails: what there is may be the empty string.
template <class A>
std::string read_c_string(const Source<A>& source, A address, u64 limit) {
  std::string s;
  split(
      source, address, limit,
      [&](u64, const u8* data, u64 n) {
        if (!s.empty() && s.back() == '\0') return;
        const void* nul = std::memchr(data, 0, n);
        s.append(reinterpret_cast<const char*>(data),
                 nul == nullptr ? n : static_cast<const u8*>(nul) - data + 1);
      },
      [](u64, u64, const Error&) { return false; });
  if (const auto nul = s.find('\0'); nul != s.npos) s.resize(nul);
  return s;
}

}  // namespace unhang::memory
