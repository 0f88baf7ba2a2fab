// Window messages: a thread that sends one (SendMessage) waits until the thread that made the window has
// answered. Who that is stands in win32k's structures, which are not public; but a thread that takes messages
// as they come would have answered, so it is one that does something else.
//
// A thread that waits for messages to come has the same wait reason. What tells them apart is the function at
// which the wait began: the system call NtUserMessageCall (win32u exports it since Windows 10), or win32k's
// xxxInterSendMsgEx, both seen in published stacks of hung windows.
#include <algorithm>

#include "base/format.h"
#include "waits/kind.h"

namespace unhang::waits {

namespace {

constexpr size_t kMostCandidates = 8;

bool names(std::string_view symbol, std::string_view function) {
  const auto mark = symbol.find('!');
  return mark != symbol.npos && symbol.substr(mark + 1).starts_with(function);
}

// Only up to where user mode ends: farther out, the same call may have led to a window procedure that waits.
bool sends_message(const ThreadNode& t) {
  for (size_t i = 0; i < t.stack.symbols.size(); i++) {
    if (names(t.stack.symbols[i], "xxxInterSendMsgEx")) return true;
    if (is_kernel(t.stack.frames[i].ip)) continue;
    return names(t.stack.symbols[i], "NtUserMessageCall") || names(t.stack.symbols[i], "ZwUserMessageCall");
  }
  return false;
}

// Messages do not go from one session to another.
bool may_share_session(const World& world, const ThreadNode& a, const ThreadNode& b) {
  const ProcessNode *p = world.process_of(a), *q = world.process_of(b);
  return p == nullptr || q == nullptr || !p->process.session || !q->process.session ||
         *p->process.session == *q->process.session;
}

// Threads with windows of the same session that do not wait for messages: those that work or are stuck first,
// then those that wait for an event.
std::vector<Candidate> candidates(const World& world, const ThreadNode& sender) {
  std::vector<Candidate> stuck, waiting;
  for (const ThreadNode& t : world.threads) {
    if (&t == &sender || t.thread.win32_thread.is_null() || t.thread.terminated() ||
        !may_share_session(world, t, sender))
      continue;
    if (!t.waiting())
      stuck.push_back({t.thread.address, "a thread with windows that works"});
    else if (t.nature() == WaitNature::event && t.thread.wait_reason == nt::kUserRequest)
      waiting.push_back({t.thread.address, "a thread with windows that waits for an object"});
    else if (t.nature() != WaitNature::event && t.nature() != WaitNature::idle &&
             t.thread.wait_reason != nt::kWrUserRequest)
      stuck.push_back({t.thread.address, fmt::format("a thread with windows that waits for a {}",
                                                     t.waits.empty() ? "lock" : t.waits.front().kind)});
  }
  stuck.insert(stuck.end(), waiting.begin(), waiting.end());
  if (stuck.size() > kMostCandidates) stuck.resize(kMostCandidates);
  return stuck;
}

void find(World& world) {
  for (ThreadNode& t : world.threads) {
    if (!t.waiting() || t.thread.wait_reason != nt::kWrUserRequest || !sends_message(t)) continue;
    const VirtAddr object =
        t.thread.wait_blocks.empty() ? t.thread.address : t.thread.wait_blocks.front().object;
    world.add_edge({.from = t.thread.address,
                    .kind = "window message",
                    .object = object,
                    .confidence = Confidence::heuristic,
                    .note = "it waits for another thread's answer to a window message (SendMessage)",
                    .candidates = candidates(world, t)});
    world.add_wait(t, {.object = object,
                       .kind = "window message",
                       .nature = WaitNature::request,
                       .detail = "another thread's answer to a window message (SendMessage)",
                       .confidence = Confidence::derived});
  }
}

}  // namespace

extern const WaitKind window_message_kind;
const WaitKind window_message_kind{.name = "window message", .order = 95, .find = find};

}  // namespace unhang::waits
