// Finding Windows in a dump that may say nothing about itself: the kernel's page tables, its base address,
// and by which rung of the ladder they were found.
#pragma once

#include <string>

#include "dump/dump_file.h"
#include "image/image.h"
#include "memory/address_space.h"

namespace unhang::nt {

// Where Windows maps KUSER_SHARED_DATA on every x64 build (public header ntddk.h: KI_USER_SHARED_DATA).
inline constexpr VirtAddr kUserSharedData{0xFFFFF780'00000000};

struct KernelPlace {
  PhysAddr dtb{};
  int levels = 4;
  VirtAddr base{};
  std::string dtb_how;   // "CR3 of CPU 0"
  std::string base_how;  // "IDT of CPU 0, image found below its handlers"
};

// Errors: unsupported (no Windows found, with what was found instead).
Result<KernelPlace> find_kernel(const dump::DumpFile& dump, const dump::PageSource<PhysAddr>& physical);

// Whether an image is the kernel: by the name it gives itself or by the name of its PDB.
bool is_kernel_image(const image::Image& image);

// The kernel image that contains an address, searched downwards page by page.
std::optional<VirtAddr> kernel_base_below(const Source<VirtAddr>& space, VirtAddr inside);

// What a CPU runs that is not in Windows' kernel, by the image below its own IDT's handlers: "hvix64.exe".
// Empty when there is none with a name.
std::string foreign_kernel_of(const dump::CpuState& cpu, const Source<PhysAddr>& physical);

// The KPCR of a CPU: what GS points to in kernel mode. Checked by its pointer to itself (KPCR.Self +0x18,
// CurrentPrcb +0x20, the embedded KPRCB at +0x180; the same on every x64 build).
std::optional<VirtAddr> kpcr_of(const dump::CpuState& cpu, const Source<VirtAddr>& kernel);

}  // namespace unhang::nt
