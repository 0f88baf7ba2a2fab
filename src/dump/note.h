// ELF notes that carry CPU state and guest hints. ELF cores and kdump files hold the same bytes.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "dump/cpu_state.h"
#include "dump/dump_file.h"

namespace unhang::dump {

struct Notes {
  std::vector<CpuState> cpus;           // QEMU's or VirtualBox's notes; NT_PRSTATUS only where there are none
  std::optional<WindowsHeader> header;  // VMCOREINFO left by the guest driver fwcfg64
  std::string other_system;             // VMCOREINFO of a Linux guest
  bool qemu = false;
  bool virtualbox = false;
  std::vector<Gap> gaps;
};

// Reads a block of notes; damaged or truncated notes end the list and become a gap.
// machine: e_machine of the ELF header, which says how NT_PRSTATUS is laid out.
Notes read_notes(ByteView notes, u16 machine);

// QEMUCPUState, as dump-guest-memory writes it since QEMU 1.2 (target/i386/arch_dump.c; FORMATS 1.2).
std::optional<CpuState> read_qemu_cpu_state(ByteView desc);

}  // namespace unhang::dump
