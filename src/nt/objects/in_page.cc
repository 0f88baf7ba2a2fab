#include "nt/objects/in_page.h"

#include "nt/objects/file_object.h"
#include "nt/objects/thread.h"
#include "nt/target.h"

namespace unhang::nt {

Result<InPage> read_in_page(const Target& target, VirtAddr event) {
  for (const MemberLine* member : {static_cast<const MemberLine*>(&MMINPAGE_SUPPORT::Event),
                                   static_cast<const MemberLine*>(&MMINPAGE_SUPPORT::CollidedEvent)}) {
    const VirtAddr support = event - TRY(target.bind(*member)).offset;
    const Object o(target, support);
    const auto thread = o[MMINPAGE_SUPPORT::Thread];
    if (!thread || !is_thread(target, *thread)) continue;
    InPage p{.address = support,
             .event = support + TRY(target.bind(MMINPAGE_SUPPORT::Event)).offset,
             .thread = *thread};
    if (const VirtAddr file = o.value_or(MMINPAGE_SUPPORT::FilePointer, {}); is_file_object(target, file))
      p.file = file;
    return p;
  }
  return fail(Error{.why = Why::implausible, .va = event, .type = "_MMINPAGE_SUPPORT", .member = "Thread"});
}

}  // namespace unhang::nt
