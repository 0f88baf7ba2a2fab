// What k and kv share.
#pragma once

#include "app/session.h"
#include "base/node.h"

namespace unhang::app {

Result<Node> show_stack(Session& session, const std::vector<std::string>& args, bool home_words);

}  // namespace unhang::app
