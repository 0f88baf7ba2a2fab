#include "app/capture/tls_greeting.h"

#include <random>

#include "base/format.h"

namespace unhang::app::capture {

namespace {

// Numbers of RFC 5246 and of IANA's TLS registries.
constexpr u8 kAlert = 21, kHandshake = 22;
constexpr u8 kServerHelloDone = 14;
constexpr size_t kMostAnswer = 1 << 16;  // certificates take a few thousand bytes
constexpr u16 kVersion12 = 0x0303, kVersion10 = 0x0301;
// With AES, newest first; the last one is RFC 5746's "renegotiation is understood".
constexpr u16 kSuites[] = {0xc030, 0xc02f, 0xc02c, 0xc02b, 0xc028, 0xc027, 0xc014, 0xc013, 0xc00a,
                           0xc009, 0x009d, 0x009c, 0x003d, 0x003c, 0x0035, 0x002f, 0x000a, 0x00ff};
constexpr u16 kGroups[] = {0x001d, 0x0017, 0x0018};
constexpr u16 kSignatures[] = {0x0804, 0x0805, 0x0806, 0x0401, 0x0501,
                               0x0601, 0x0403, 0x0503, 0x0201, 0x0203};

// Big-endian bytes, and lengths that are known when what they count has been written.
class Writer {
 public:
  Writer& put(u64 value, int size) {
    for (int i = size - 1; i >= 0; i--) bytes_.push_back(static_cast<u8>(value >> (8 * i)));
    return *this;
  }
  // Writes what `content` writes behind its length, which takes `size` bytes.
  template <class Content>
  Writer& counted(int size, Content&& content) {
    const size_t at = bytes_.size();
    put(0, size);
    content();
    const u64 length = bytes_.size() - at - static_cast<size_t>(size);
    for (int i = 0; i < size; i++)
      bytes_[at + static_cast<size_t>(i)] = static_cast<u8>(length >> (8 * (size - 1 - i)));
    return *this;
  }
  template <size_t N>
  void list(const u16 (&values)[N]) {
    counted(2, [&] {
      for (const u16 v : values) put(v, 2);
    });
  }
  std::vector<u8> take() { return std::move(bytes_); }

 private:
  std::vector<u8> bytes_;
};

}  // namespace

std::vector<u8> tls_client_hello() {
  constexpr u16 kSupportedGroups = 10, kPointFormats = 11, kSignatureAlgorithms = 13;
  Writer w;
  std::random_device random;
  w.put(kHandshake, 1).put(kVersion10, 2).counted(2, [&] {
    w.put(1, 1).counted(3, [&] {
      w.put(kVersion12, 2);
      for (int i = 0; i < 8; i++) w.put(random(), 4);
      w.put(0, 1);  // no session to resume
      w.list(kSuites);
      w.put(1, 1).put(0, 1);  // no compression
      w.counted(2, [&] {
        w.put(kSupportedGroups, 2).counted(2, [&] { w.list(kGroups); });
        w.put(kPointFormats, 2).counted(2, [&] { w.put(1, 1).put(0, 1); });
        w.put(kSignatureAlgorithms, 2).counted(2, [&] { w.list(kSignatures); });
      });
    });
  });
  return w.take();
}

std::optional<TlsAnswer> tls_answer(ByteView received) {
  if (received.size() > kMostAnswer) return TlsAnswer{.how = "an answer that is not TLS's"};
  // Messages may be split over records and share them.
  std::vector<u8> messages;
  for (u64 at = 0; received.covers(at, 5);) {
    const u8 type = received.at<u8>(at);
    const u64 size = received.be<u16>(at + 3).value_or(0);
    if ((type != kHandshake && type != kAlert) || received.at<u8>(at + 1) != 3)
      return TlsAnswer{.how = "an answer that is not TLS's"};
    const auto content = received.sub(at + 5, size);
    if (!content) break;
    if (type == kAlert)
      return TlsAnswer{.how = fmt::format("TLS refused, alert {}", content->at<u8>(1)), .good = true};
    messages.insert(messages.end(), content->span().begin(), content->span().end());
    at += 5 + size;
  }
  const ByteView m(messages.data(), messages.size());
  for (u64 at = 0; m.covers(at, 4); at += 4 + (m.be<u32>(at).value_or(0) & 0xffffff))
    if (m.at<u8>(at) == kServerHelloDone) return TlsAnswer{.how = "TLS answered", .good = true};
  return std::nullopt;
}

}  // namespace unhang::app::capture
