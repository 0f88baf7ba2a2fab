// The plain part of a TLS handshake, as servers split it; and what is none.
#include "app/capture/tls_greeting.h"

#include <gtest/gtest.h>

namespace unhang::app::capture {
namespace {

using Bytes = std::vector<u8>;

Bytes message(u8 type, size_t size) {
  Bytes b{type, 0, static_cast<u8>(size >> 8), static_cast<u8>(size)};
  b.resize(b.size() + size, 0xEE);
  return b;
}

Bytes record(u8 type, const Bytes& content) {
  Bytes b{type, 3, 3, static_cast<u8>(content.size() >> 8), static_cast<u8>(content.size())};
  b.insert(b.end(), content.begin(), content.end());
  return b;
}

std::optional<TlsAnswer> answer(const Bytes& b) {
  return tls_answer(ByteView(b.data(), b.size()));
}

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TEST(TlsGreeting, IsCompleteWithServerHelloDoneOnly) {
  const Bytes messages = message(2, 70) + message(11, 900) + message(12, 300) + message(14, 0);
  for (const size_t split : {size_t{3}, size_t{500}, messages.size() - 1}) {
    const auto at = messages.begin() + static_cast<std::ptrdiff_t>(split);
    const Bytes all = record(22, Bytes(messages.begin(), at)) + record(22, Bytes(at, messages.end()));
    for (size_t n = 0; n < all.size(); n++)
      EXPECT_FALSE(answer(Bytes(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(n)))) << n;
    ASSERT_TRUE(answer(all));
    EXPECT_TRUE(answer(all)->good);
  }
}

TEST(TlsGreeting, AnAlertIsAnAnswerAndGarbageIsNone) {
  const auto alert = answer(record(21, {2, 70}));
  ASSERT_TRUE(alert);
  EXPECT_TRUE(alert->good);
  EXPECT_EQ(alert->how, "TLS refused, alert 70");
  for (const Bytes& b : {Bytes(64, 0), Bytes(64, 'H'), record(23, message(14, 0)), Bytes(70'000, 22)}) {
    ASSERT_TRUE(answer(b));
    EXPECT_FALSE(answer(b)->good);
  }
}

TEST(TlsGreeting, TheHelloCountsWhatItHolds) {
  const Bytes hello = tls_client_hello();
  const ByteView h(hello.data(), hello.size());
  EXPECT_EQ(h.be<u16>(3).value_or(0), hello.size() - 5);
  EXPECT_EQ(h.be<u32>(5).value_or(0) & 0xffffff, hello.size() - 9);
  const u64 suites = 5 + 4 + 2 + 32 + 1, extensions = suites + 2 + h.be<u16>(suites).value_or(0) + 2;
  EXPECT_EQ(h.be<u16>(extensions).value_or(0), hello.size() - extensions - 2);
  EXPECT_NE(hello, tls_client_hello());  // its random part
}

}  // namespace
}  // namespace unhang::app::capture
