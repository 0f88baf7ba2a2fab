// Running a helper program and taking its output.
#pragma once

#include <string>
#include <vector>

#include "base/error.h"

namespace unhang {

struct ProcessResult {
  int status = 0;          // exit status, or 128 + signal
  std::vector<u8> output;  // standard output
  std::string message;     // first line of standard error
};

// Runs a program (argv[0] is its path) and waits. Its memory and CPU time are bounded: a helper works on
// files that may be hostile. Errors: io (cannot start), limit (more than `most` bytes of output).
Result<ProcessResult> run_process(const std::vector<std::string>& argv, u64 most);

// The directory of the running program, where its helpers lie.
std::string program_directory();

}  // namespace unhang
