// The plain beginning of a TLS connection (RFC 5246): what a server says before anything is encrypted. Enough
// to see that it answers, and when; no library is needed for it, and no key.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"

namespace unhang::app::capture {

// A ClientHello of TLS 1.2, which servers answer down to TLS 1.0; one that allows 1.3 only refuses it.
std::vector<u8> tls_client_hello();

// What the server's bytes so far come to: nothing yet; or how it ended. good: the server has done its part of
// the handshake (ServerHelloDone, which comes behind its signature), or refuses it with an alert.
struct TlsAnswer {
  std::string how;
  bool good = false;
};
std::optional<TlsAnswer> tls_answer(ByteView received);

}  // namespace unhang::app::capture
