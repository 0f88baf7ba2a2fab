// Finding an object by address or by name, for !devobj, !devstack, !drvobj, !object.
#pragma once

#include <initializer_list>

#include "app/session.h"

namespace unhang::app {

// An address expression, or a name; a name without a path is looked for in the given directories.
// Errors: unsupported (neither).
Result<VirtAddr> object_by_name(Session& session, const std::string& word,
                                std::initializer_list<const char*> directories);

}  // namespace unhang::app
