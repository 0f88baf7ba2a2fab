// Pieces that several shapes print alike.
#pragma once

#include "report/text.h"

namespace unhang::report {

// Child-SP, RetAddr, Call Site. Frames that are not exact are marked.
void print_stack(const Node& frames, Text& out, bool numbers = false);
// Why a stack ended, when that is not its natural end.
void print_stack_end(const Node& thread, Text& out);
// "*** gap: ..." lines.
void print_gaps(const Node& gaps, Text& out);
// The part of a report that says what it could not see.
void print_not_seen(const Node& gaps, Text& out);

}  // namespace unhang::report
