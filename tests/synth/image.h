// A small PE32+ image made in memory: functions with unwind data, exports, a CodeView record, room for data.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/types.h"
#include "image/pdb_id.h"

namespace unhang::synth {

// A PE32+ header for x64 with these sections, and an entry of its directory table.
struct SectionPlan {
  const char* name;
  u32 rva, size, flags;
};
inline constexpr u32 kCodeSection = 0x68000020, kReadOnlySection = 0x48000040, kDataSection = 0xc8000040;
void put_headers(std::vector<u8>& image, std::span<const SectionPlan> sections);
void put_directory(std::vector<u8>& image, u32 number, u32 rva, u32 size);

// How a function's frame looks; all forms begin with pushes and end with a call in the middle of the body.
struct FunctionShape {
  u32 frame = 0x28;  // bytes that the prologue takes from the stack behind the pushes
  bool push_rbx = false;
  bool push_rbp_frame = false;  // push rbp; lea rbp,[rsp+0x20] as the frame register
  bool machine_frame = false;   // entered by the processor: unwinding ends in a machine frame
  bool leaf = false;            // no unwind data
};

struct Function {
  std::string name;
  u32 begin = 0;  // rva
  u32 end = 0;
  u32 call_site = 0;  // rva right behind a call: a return address
  FunctionShape shape;
  bool exported = true;
};

class ImageBuilder {
 public:
  // file_name is what the export directory says; pdb may be empty: no CodeView record.
  ImageBuilder(std::string file_name, image::PdbId pdb);

  const Function& add_function(const std::string& name, FunctionShape shape = {}, bool exported = true);
  // Reserves bytes in the writable section; returns their rva.
  u32 add_data(const std::string& name, u32 size, bool exported = false);

  const Function& function(const std::string& name) const;
  u32 rva_of(const std::string& name) const;
  std::vector<std::pair<std::string, u32>> symbols() const;
  // The image as it lies in memory.
  std::vector<u8> build();
  u32 size() const;

  // Stack bytes that a function takes from its return address down: pushes and frame.
  static u32 stack_use(const FunctionShape& shape);

 private:
  std::string file_name_;
  image::PdbId pdb_;
  std::vector<Function> functions_;
  struct Data {
    std::string name;
    u32 rva, size;
    bool exported;
  };
  std::vector<Data> data_;
  u32 next_data_ = 0;
};

}  // namespace unhang::synth
