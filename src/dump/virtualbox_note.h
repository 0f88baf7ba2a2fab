// Notes of the cores that VirtualBox writes (`VBoxManage debugvm VM dumpvmcore`).
#pragma once

#include <optional>

#include "base/bytes.h"
#include "dump/cpu_state.h"

namespace unhang::dump {

// Types of the notes "VBCORE" and "VBCPU".
constexpr u32 kVirtualBoxCore = 0xb00, kVirtualBoxCpu = 0xb01;

// The format's version in a VBCORE note; nothing when it is none that is known.
std::optional<u32> read_virtualbox_version(ByteView desc);

// DBGFCORECPU in a VBCPU note of a core of that version. Nothing when it is too short.
std::optional<CpuState> read_virtualbox_cpu(ByteView desc, u32 version);

}  // namespace unhang::dump
