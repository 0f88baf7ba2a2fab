// CPU states out of the device sections of a migration stream: richer than any note of an ELF core.
#pragma once

#include <vector>

#include "dump/cpu_state.h"
#include "dump/migration_device.h"

namespace unhang::dump {

std::vector<CpuState> read_cpus(const Devices& devices);

}  // namespace unhang::dump
