// The unwinder against a small processor that executes the instructions which it has to understand:
// prologues, bodies and epilogues run one instruction at a time, and at each of them unwinding must lead to
// the caller with the registers that the caller had.
#include "stack/unwinder.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/format.h"
#include "memory/address_space.h"
#include "synth/code_image.h"
#include "synth/memory.h"

namespace unhang::stack {
namespace {

using dump::r12;
using dump::r13;
using dump::r14;
using dump::r15;
using dump::rax;
using dump::rbp;
using dump::rbx;
using dump::rdi;
using dump::rsi;
using dump::rsp;
using synth::CodeImage;
using synth::UnwindBytes;

using Bytes = std::vector<u8>;

constexpr VirtAddr kBase(0xfffff800'01000000);
constexpr VirtAddr kStack(0xfffff880'00100000);
constexpr u64 kStackSize = 0x100000;
constexpr VirtAddr kStackTop = kStack + kStackSize;
constexpr u8 kNonvolatile[] = {rbx, rbp, rsi, rdi, r12, r13, r14, r15};

Bytes operator+(Bytes a, const Bytes& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}
Bytes le(u32 v, size_t n = 4) {
  Bytes b;
  for (size_t i = 0; i < n; i++) b.push_back(static_cast<u8>(v >> (8 * i)));
  return b;
}

// ---- the processor ----

struct Cpu {
  synth::Memory* memory = nullptr;
  Registers r;
  u64& operator[](u8 reg) { return r.gpr[reg]; }
  void push(u64 v) {
    r.gpr[rsp] -= 8;
    memory->put(r.sp(), v);
  }
  u64 pop() {
    const u64 v = memory->get<u64>(r.sp());
    r.gpr[rsp] += 8;
    return v;
  }
};

struct Insn {
  Bytes bytes;
  std::function<void(Cpu&)> run = [](Cpu&) {};
  Bytes code = {};           // unwind code without its offset byte
  bool code_at_end = false;  // a save relative to the final RSP: valid only when the whole prologue has run
  u32 jump_to = 0;           // rva: the last four bytes are the displacement to it
};

Insn nop() {
  return {.bytes = {0x90}};
}
Insn push(u8 reg) {
  return {
      .bytes = reg >= 8 ? Bytes{0x41, static_cast<u8>(0x50 | (reg & 7))} : Bytes{static_cast<u8>(0x50 | reg)},
      .run = [reg](Cpu& c) { c.push(c[reg]); },
      .code = {static_cast<u8>(reg << 4 | 0)}};
}
Insn pop(u8 reg) {
  return {
      .bytes = reg >= 8 ? Bytes{0x41, static_cast<u8>(0x58 | (reg & 7))} : Bytes{static_cast<u8>(0x58 | reg)},
      .run = [reg](Cpu& c) { c[reg] = c.pop(); }};
}
// sub rsp, n: as a prologue's allocation, with the shortest code that can say it.
Insn allocate(u32 n) {
  Bytes code;
  if (n <= 128)
    code = {static_cast<u8>((n / 8 - 1) << 4 | 2)};
  else if (n / 8 < 0x10000)
    code = Bytes{0x01} + le(n / 8, 2);
  else
    code = Bytes{0x11} + le(n);
  return {.bytes = n < 128 ? Bytes{0x48, 0x83, 0xec, static_cast<u8>(n)} : Bytes{0x48, 0x81, 0xec} + le(n),
          .run = [n](Cpu& c) { c[rsp] -= n; },
          .code = code};
}
// The same in a body, where no code says it: alloca.
Insn alloca_bytes(u32 n) {
  Insn i = allocate(n);
  i.code.clear();
  return i;
}
Insn add_rsp(u32 n) {
  return {.bytes = n < 128 ? Bytes{0x48, 0x83, 0xc4, static_cast<u8>(n)} : Bytes{0x48, 0x81, 0xc4} + le(n),
          .run = [n](Cpu& c) { c[rsp] += n; }};
}
// lea reg, [rsp+offset]: sets the frame register.
Insn set_frame(u8 reg, u8 offset) {
  return {.bytes = {static_cast<u8>(reg >= 8 ? 0x4c : 0x48), 0x8d, static_cast<u8>(0x44 | (reg & 7) << 3),
                    0x24, offset},
          .run = [reg, offset](Cpu& c) { c[reg] = c[rsp] + offset; },
          .code = {0x03}};
}
// lea rsp, [reg+n]: the first instruction of an epilogue with a frame register.
Insn lea_rsp(u8 reg, u32 n) {
  const u8 rex = reg >= 8 ? 0x49 : 0x48;
  Bytes b;
  if (n == 0)
    b = {rex, 0x8d, static_cast<u8>(0x20 | (reg & 7))};
  else if (n < 128)
    b = {rex, 0x8d, static_cast<u8>(0x60 | (reg & 7)), static_cast<u8>(n)};
  else
    b = Bytes{rex, 0x8d, static_cast<u8>(0xa0 | (reg & 7))} + le(n);
  return {.bytes = b, .run = [reg, n](Cpu& c) { c[rsp] = c[reg] + n; }};
}
// mov [base+offset], reg with the unwind code that finds it at `from_frame` above the frame.
Insn save(u8 reg, u8 base, u32 offset, u32 from_frame, bool code_at_end) {
  const u8 rex = reg >= 8 ? 0x4c : 0x48;
  Bytes b{rex, 0x89, static_cast<u8>(0x80 | (reg & 7) << 3 | base)};
  if (base == rsp) b.push_back(0x24);
  const Bytes code = from_frame / 8 < 0x10000 ? Bytes{static_cast<u8>(reg << 4 | 4)} + le(from_frame / 8, 2)
                                              : Bytes{static_cast<u8>(reg << 4 | 5)} + le(from_frame);
  return {.bytes = b + le(offset),
          .run = [=](Cpu& c) { c.memory->put(VirtAddr(c[base] + offset), c[reg]); },
          .code = code,
          .code_at_end = code_at_end};
}
// movaps [rsp+offset], xmm6: leaves the registers that we follow alone, but its code takes slots.
Insn save_xmm(u32 offset) {
  const Bytes code = offset / 16 < 0x10000 ? Bytes{0x68} + le(offset / 16, 2) : Bytes{0x69} + le(offset);
  return {.bytes = Bytes{0x0f, 0x29, 0xb4, 0x24} + le(offset), .code = code, .code_at_end = true};
}
Insn restore(u8 reg, u8 base, u32 offset) {
  Bytes b{static_cast<u8>(reg >= 8 ? 0x4c : 0x48), 0x8b, static_cast<u8>(0x80 | (reg & 7) << 3 | base)};
  if (base == rsp) b.push_back(0x24);
  return {.bytes = b + le(offset),
          .run = [=](Cpu& c) { c[reg] = c.memory->get<u64>(VirtAddr(c[base] + offset)); }};
}
// mov reg, imm32: what a body does with a register that it has saved.
Insn clobber(u8 reg) {
  return {.bytes = Bytes{static_cast<u8>(reg >= 8 ? 0x49 : 0x48), 0xc7, static_cast<u8>(0xc0 | (reg & 7))} +
                   le(0x1234567),
          .run = [reg](Cpu& c) { c[reg] = 0x1234567; }};
}
Insn ret() {
  return {.bytes = {0xc3}};
}
Insn jump(u32 rva) {
  return {.bytes = Bytes{0xe9} + le(0), .jump_to = rva};
}

// ---- functions ----

struct Shape {
  std::vector<Insn> prologue, body, epilogue;
  u8 version = 1;
  u8 frame_register = 0, frame_offset = 0;
  Bytes epilog_codes = {};  // version 2: they stand before the prologue's
  bool leaf = false;
  // Chained to the function with these bounds and unwind data.
  std::optional<std::array<u32, 3>> chained = std::nullopt;
};

struct Placed {
  u32 rva;
  Insn insn;
};
struct Made {
  u32 begin = 0, end = 0, unwind = 0;
  std::vector<Placed> path;
  std::array<u32, 3> entry() const { return {begin, end, unwind}; }
};

class UnwinderTest : public testing::Test {
 protected:
  // The caller of everything: one frame of 0x28 bytes, then the end.
  UnwinderTest() {
    caller_ = make({.prologue = {allocate(0x28)},
                    .body = {{.bytes = {0xe8, 0, 0, 0, 0}}, nop()},
                    .epilogue = {add_rsp(0x28), ret()}});
    memory_.map(kStack, kStackSize);
  }

  VirtAddr return_address() const { return kBase + caller_.path[2].rva; }

  Made make(const Shape& s) {
    Made m;
    std::vector<Insn> all = s.prologue;
    all.insert(all.end(), s.body.begin(), s.body.end());
    all.insert(all.end(), s.epilogue.begin(), s.epilogue.end());
    Bytes code;
    std::vector<Bytes> codes, at_end;
    size_t prolog_size = 0;
    for (size_t i = 0; i < all.size(); i++) {
      const u32 rva = code_.next_code() + static_cast<u32>(code.size());
      Bytes b = all[i].bytes;
      if (all[i].jump_to != 0) {
        const Bytes displacement = le(all[i].jump_to - (rva + static_cast<u32>(b.size())));
        std::copy(displacement.begin(), displacement.end(), b.end() - 4);
      }
      m.path.push_back({rva, all[i]});
      code = code + b;
      if (i < s.prologue.size()) {
        prolog_size = code.size();
        if (!all[i].code.empty() && !all[i].code_at_end)
          codes.push_back(Bytes{static_cast<u8>(code.size())} + all[i].code);
      }
    }
    UnwindBytes u{.version = s.version,
                  .prolog_size = static_cast<u8>(prolog_size),
                  .frame_register = s.frame_register,
                  .frame_offset = s.frame_offset,
                  .codes = s.epilog_codes};
    for (const Insn& i : s.prologue)
      if (i.code_at_end) u.codes = u.codes + Bytes{u.prolog_size} + i.code;
    for (size_t i = codes.size(); i-- > 0;) u.codes = u.codes + codes[i];
    if (s.chained) {
      u.flags = UnwindBytes::kChained;
      std::copy(s.chained->begin(), s.chained->end(), u.chained);
    }
    m.begin = code_.add_code(code);
    m.end = m.begin + static_cast<u32>(code.size());
    if (!s.leaf) {
      m.unwind = code_.add_unwind(u.build());
      code_.add_function(m.begin, m.end, m.unwind);
    }
    return m;
  }

  // Writes the image into memory, but for some pages, and opens it there.
  void load(const std::vector<u32>& missing = {}) {
    const Bytes bytes = code_.build();
    memory_.map(kBase, bytes.size());
    memory_.write(kBase, bytes.data(), bytes.size());
    for (const u32 rva : missing) memory_.set_pte(kBase + rva, 0);
    space_.emplace(memory_.pages(), memory_.dtb(), memory::PagingRules{});
    auto image = image::Image::open(std::make_shared<image::MemoryImage>(*space_, kBase));
    ASSERT_TRUE(image.has_value()) << text(image.error());
    image_.emplace(std::move(*image));
  }

  FindImage images() {
    return [this](VirtAddr va) -> std::optional<ImageAt> {
      if (va < kBase || va >= kBase + CodeImage::kSize) return std::nullopt;
      return ImageAt{&*image_, kBase};
    };
  }
  Unwound unwind(const Registers& r, const UnwindOptions& options = {}) {
    return stack::unwind(r, *space_, images(), options);
  }

  // A processor that has just been called: the caller's frame, the return address, registers all different.
  Cpu called(VirtAddr top = kStackTop - 0x1000) {
    Cpu c{.memory = &memory_};
    for (u8 i = 0; i < 16; i++) c[i] = 0x1010101'01010101 * (i + 1u);
    c[rsp] = top.value();
    c.push(0);  // the caller's return address: nothing above
    c[rsp] -= 0x28;
    caller_sp_ = c.r.sp();
    original_ = c.r;
    c.push(return_address().value());
    return c;
  }

  void expect_caller(const Unwound& u, size_t frame) {
    ASSERT_EQ(u.end, StackEnd::complete) << u.how();
    ASSERT_EQ(u.frames.size(), frame + 1);
    EXPECT_EQ(u.frames[frame].ip, return_address());
    EXPECT_EQ(u.frames[frame].sp, caller_sp_);
    EXPECT_EQ(u.frames[frame].kind, FrameKind::call);
    EXPECT_EQ(u.frames[frame].trust, Confidence::exact);
    EXPECT_FALSE(u.heuristic);
    for (const u8 reg : kNonvolatile)
      EXPECT_EQ(u.registers.gpr[reg], original_.gpr[reg]) << "register " << int{reg};
    EXPECT_EQ(u.registers.sp(), caller_sp_ + 0x30);
  }

  // Runs a path, unwinding before each instruction.
  void every_instruction(const std::vector<Placed>& path) {
    Cpu c = called();
    for (size_t i = 0; i < path.size(); i++) {
      SCOPED_TRACE(fmt::format("before instruction {} at rva {:#x}", i, path[i].rva));
      c.r.rip = (kBase + path[i].rva).value();
      const Unwound u = unwind(c.r);
      ASSERT_GE(u.frames.size(), 1u);
      EXPECT_EQ(u.frames[0].ip, c.r.ip());
      EXPECT_EQ(u.frames[0].sp, c.r.sp());
      EXPECT_EQ(u.frames[0].kind, FrameKind::start);
      expect_caller(u, 1);
      path[i].insn.run(c);
    }
  }
  void every_instruction(const Shape& shape) {
    const Made m = make(shape);
    load();
    every_instruction(m.path);
  }

  synth::Memory memory_;
  CodeImage code_;
  Made caller_;
  std::optional<memory::AddressSpace> space_;
  std::optional<image::Image> image_;
  VirtAddr caller_sp_{};
  Registers original_;
};

// push, small allocation, add, pop.
const Shape kUsual{.prologue = {push(rbp), push(rbx), push(r12), push(r15), allocate(0x28)},
                   .body = {clobber(rbx), clobber(r12), nop(), clobber(rbp)},
                   .epilogue = {add_rsp(0x28), pop(r15), pop(r12), pop(rbx), pop(rbp), ret()}};

TEST_F(UnwinderTest, PushesAndSmallAllocation) {
  every_instruction(kUsual);
}

TEST_F(UnwinderTest, LargestSmallAllocation) {
  every_instruction(Shape{.prologue = {allocate(128)}, .body = {nop()}, .epilogue = {add_rsp(128), ret()}});
}

TEST_F(UnwinderTest, LargeAllocationOfTwoSlots) {
  every_instruction(Shape{.prologue = {push(rdi), allocate(0x1208)},
                          .body = {clobber(rdi), nop()},
                          .epilogue = {add_rsp(0x1208), pop(rdi), ret()}});
}

TEST_F(UnwinderTest, LargeAllocationOfThreeSlots) {
  every_instruction(Shape{.prologue = {push(r14), allocate(0x90008)},
                          .body = {clobber(r14), nop()},
                          .epilogue = {add_rsp(0x90008), pop(r14), ret()}});
}

// mov [rsp+8], rbx before anything else, as compilers do; its code counts from the final RSP and so comes
// into force only when the prologue is over.
TEST_F(UnwinderTest, SavesInTheHomeArea) {
  every_instruction(Shape{
      .prologue = {save(rbx, rsp, 8, 0x30, true), save(rsi, rsp, 0x10, 0x38, true), push(rdi),
                   allocate(0x20)},
      .body = {clobber(rbx), clobber(rsi), clobber(rdi), restore(rbx, rsp, 0x30), restore(rsi, rsp, 0x38)},
      .epilogue = {add_rsp(0x20), pop(rdi), ret()}});
}

TEST_F(UnwinderTest, FarSavesAndXmmSaves) {
  every_instruction(
      Shape{.prologue = {allocate(0xa0008), save(r13, rsp, 0x88000, 0x88000, true), save_xmm(0x40),
                         save(rsi, rsp, 0x80, 0x80, true), save_xmm(0x100000 - 0x80000)},
            .body = {clobber(r13), clobber(rsi), nop(), restore(r13, rsp, 0x88000), restore(rsi, rsp, 0x80)},
            .epilogue = {add_rsp(0xa0008), ret()}});
}

// The far XMM code takes three slots; a reader that takes two reads the rest of the codes wrongly.
TEST_F(UnwinderTest, FarXmmSaveTakesThreeSlots) {
  Insn far = save_xmm(0x80);
  far.code = Bytes{0x69} + le(0x80);
  every_instruction(Shape{.prologue = {push(rbx), allocate(0x108), far},
                          .body = {clobber(rbx)},
                          .epilogue = {add_rsp(0x108), pop(rbx), ret()}});
}

TEST_F(UnwinderTest, FrameRegisterWithAlloca) {
  every_instruction(Shape{.prologue = {push(rbp), push(rsi), allocate(0x40), set_frame(rbp, 0x20)},
                          .body = {nop(), alloca_bytes(0x230), clobber(rsi), alloca_bytes(0x10), nop()},
                          .epilogue = {lea_rsp(rbp, 0x20), pop(rsi), pop(rbp), ret()},
                          .frame_register = rbp,
                          .frame_offset = 2});
}

TEST_F(UnwinderTest, UpperFrameRegisterAndFarEpilogue) {
  every_instruction(Shape{.prologue = {push(r13), allocate(0x200), set_frame(r13, 0x70)},
                          .body = {alloca_bytes(0x400), nop()},
                          .epilogue = {lea_rsp(r13, 0x190), pop(r13), ret()},
                          .frame_register = r13,
                          .frame_offset = 7});
}

TEST_F(UnwinderTest, EpilogueThatBeginsAtTheFrameRegister) {
  every_instruction(Shape{.prologue = {push(rdi), set_frame(rdi, 0)},
                          .body = {alloca_bytes(0x100), nop()},
                          .epilogue = {lea_rsp(rdi, 0), pop(rdi), ret()},
                          .frame_register = rdi,
                          .frame_offset = 0});
}

TEST_F(UnwinderTest, Leaf) {
  every_instruction(Shape{.body = {nop(), clobber(rax), nop()}, .epilogue = {ret()}, .leaf = true});
}

TEST_F(UnwinderTest, OtherReturns) {
  every_instruction(Shape{
      .prologue = {push(rbx)}, .body = {clobber(rbx)}, .epilogue = {pop(rbx), {.bytes = {0xf3, 0xc3}}}});
}

TEST_F(UnwinderTest, TailCalls) {
  const Insn through_import{.bytes = {0x48, 0xff, 0x25, 0x10, 0, 0, 0}};  // rex.w jmp [rip+10h]
  const Insn through_register{.bytes = {0x48, 0xff, 0xe0}};               // rex.w jmp rax
  const Made direct = make({.prologue = {push(rbx), allocate(0x20)},
                            .body = {clobber(rbx)},
                            .epilogue = {add_rsp(0x20), pop(rbx), jump(caller_.begin)}});
  const Made import = make({.prologue = {push(rbx), allocate(0x20)},
                            .body = {clobber(rbx)},
                            .epilogue = {add_rsp(0x20), pop(rbx), through_import}});
  const Made pointer = make(
      {.prologue = {allocate(0x28)}, .body = {clobber(rax)}, .epilogue = {add_rsp(0x28), through_register}});
  load();
  every_instruction(direct.path);
  every_instruction(import.path);
  every_instruction(pointer.path);
}

// A jump inside of the function is no epilogue, wherever it goes.
TEST_F(UnwinderTest, LocalJumpIsNoEpilogue) {
  const u32 begin = code_.next_code();
  const Made m = make({.prologue = {push(rbx), allocate(0x20)},
                       .body = {clobber(rbx), jump(begin + 8), {.bytes = {0xeb, 0xfe}}, nop()},
                       .epilogue = {add_rsp(0x20), pop(rbx), ret()}});
  load();
  every_instruction(m.path);
}

// Bytes that look like an epilogue but do not end in one.
TEST_F(UnwinderTest, PopsWithoutReturnAreNoEpilogue) {
  Insn pop_in_body = pop(rax);
  pop_in_body.run = [](Cpu& c) { c[rsp] += 8; };
  Insn push_in_body = push(rax);
  push_in_body.code.clear();
  // With a frame register a body may push and pop.
  every_instruction(Shape{.prologue = {push(rbp), allocate(0x20), set_frame(rbp, 0x20)},
                          .body = {push_in_body, pop_in_body, nop()},
                          .epilogue = {lea_rsp(rbp, 0), pop(rbp), ret()},
                          .frame_register = rbp,
                          .frame_offset = 2});
}

// Version 2 puts codes for the epilogues first: one at the function's end, one more and a filler.
TEST_F(UnwinderTest, VersionTwoWithEpilogCodes) {
  Shape s = kUsual;
  s.version = 2;
  s.epilog_codes = {0x0c, 0x16, 0x30, 0x06, 0x00, 0x06};
  every_instruction(s);
}

// A cold part of a function: its own unwind data save one more register and are chained to the function's.
TEST_F(UnwinderTest, ChainedPart) {
  const Made hot = make({.prologue = {push(rbx), allocate(0x40)},
                         .body = {clobber(rbx), nop(), nop()},
                         .epilogue = {add_rsp(0x40), pop(rbx), ret()}});
  const Made cold =
      make({.prologue = {save(rsi, rsp, 0x30, 0x30, false), save(rdi, rsp, 0x38, 0x38, false)},
            .body = {clobber(rsi), clobber(rdi), nop(), restore(rsi, rsp, 0x30), restore(rdi, rsp, 0x38)},
            // Back into the hot part: a jump out of these bounds that is no epilogue.
            .epilogue = {jump(hot.path[3].rva)},
            .chained = hot.entry()});
  load();
  std::vector<Placed> path(hot.path.begin(), hot.path.begin() + 3);
  path.insert(path.end(), cold.path.begin(), cold.path.end());
  path.insert(path.end(), hot.path.begin() + 3, hot.path.end());
  every_instruction(path);
}

// The hot part jumps to the cold part with its frame in place.
TEST_F(UnwinderTest, JumpToAChainedPartIsNoEpilogue) {
  // Where the cold part will lie: behind the 23 bytes of the hot one.
  const u32 cold_begin = code_.next_code() + 48;
  const Made hot = make({.prologue = {push(rbx), allocate(0x40)},
                         .body = {clobber(rbx), jump(cold_begin)},
                         .epilogue = {add_rsp(0x40), pop(rbx), ret()}});
  const Made cold =
      make({.body = {nop(), nop()}, .epilogue = {jump(hot.path[4].rva)}, .chained = hot.entry()});
  ASSERT_EQ(cold.begin, cold_begin);
  load();
  std::vector<Placed> path(hot.path.begin(), hot.path.begin() + 4);
  path.insert(path.end(), cold.path.begin(), cold.path.end());
  path.insert(path.end(), hot.path.begin() + 4, hot.path.end());
  every_instruction(path);
}

// A chained part saves registers relative to the frame register, which has been set long ago: also while the
// part's own prologue runs.
TEST_F(UnwinderTest, ChainedPartWithFrameRegister) {
  const Made hot = make({.prologue = {push(rbp), allocate(0x60), set_frame(rbp, 0x20)},
                         .body = {alloca_bytes(0x180), nop()},
                         .epilogue = {lea_rsp(rbp, 0x40), pop(rbp), ret()},
                         .frame_register = rbp,
                         .frame_offset = 2});
  const Made cold =
      make({.prologue = {save(rsi, rbp, 0x10, 0x30, false), save(rdi, rbp, 0x18, 0x38, false)},
            .body = {clobber(rsi), clobber(rdi), nop(), restore(rsi, rbp, 0x10), restore(rdi, rbp, 0x18)},
            .frame_register = rbp,
            .frame_offset = 2,
            .chained = hot.entry()});
  load();
  std::vector<Placed> path(hot.path.begin(), hot.path.begin() + 5);
  path.insert(path.end(), cold.path.begin(), cold.path.end());
  path.insert(path.end(), hot.path.begin() + 5, hot.path.end());
  every_instruction(path);
}

// An odd unwind address names another RUNTIME_FUNCTION, whose unwind data are meant.
TEST_F(UnwinderTest, OddUnwindAddress) {
  const Made whole = make({.prologue = {push(rbx), allocate(0x20)},
                           .body = {clobber(rbx), nop()},
                           .epilogue = {add_rsp(0x20), pop(rbx), ret()}});
  const u32 part = code_.add_code({0x90, 0x90, 0x90, 0x90});
  // Entries are sorted: the caller's is 0, the whole function's is 1.
  code_.add_function(part, part + 4, (CodeImage::kPdata + 12) | 1);
  load();
  Cpu c = called();
  for (int i = 0; i < 3; i++) whole.path[static_cast<size_t>(i)].insn.run(c);
  c.r.rip = (kBase + part + 1).value();
  expect_caller(unwind(c.r), 1);
}

// ---- traps and interrupts ----

// KiInterrupt or a fault: the processor pushes SS, RSP, RFLAGS, CS, RIP and for some faults an error code;
// the handler's unwind data begin with a machine frame.
struct Trap {
  bool error_code = false;
  u16 cs = 0x10;
};

void interrupt(Cpu& c, const Trap& trap, VirtAddr handler) {
  const u64 old_sp = c[rsp];
  c[rsp] &= ~u64{15};
  c.push(0x18);
  c.push(old_sp);
  c.push(0x202);
  c.push(trap.cs);
  c.push(c.r.rip);
  if (trap.error_code) c.push(0);
  c.r.rip = handler.value();
}

Shape handler_shape(const Trap& trap) {
  // The machine frame's code has offset 0: it is the first thing of all.
  Insn frame{.bytes = {}, .code = {static_cast<u8>(trap.error_code ? 0x1a : 0x0a)}};
  return {.prologue = {frame, push(rbp), allocate(0x158), set_frame(rbp, 0x80)},
          .body = {clobber(rax), nop()},
          .frame_register = rbp,
          .frame_offset = 8};
}

class TrapTest : public UnwinderTest, public testing::WithParamInterface<bool> {};

// Interrupted at each instruction of a function, seen from each instruction of the handler.
TEST_P(TrapTest, AtEveryInstruction) {
  const Trap trap{.error_code = GetParam()};
  const Made victim = make(kUsual), handler = make(handler_shape(trap));
  load();
  Cpu c = called();
  for (const Placed& at : victim.path) {
    Cpu h = c;
    h.r.rip = (kBase + at.rva).value();
    interrupt(h, trap, kBase + handler.begin);
    const VirtAddr rip_at = h.r.sp() + (trap.error_code ? 8 : 0);
    for (size_t i = 0; i < handler.path.size(); i++) {
      SCOPED_TRACE(fmt::format("victim at {:#x}, handler at {:#x}", at.rva, handler.path[i].rva));
      h.r.rip = (kBase + handler.path[i].rva).value();
      const Unwound u = unwind(h.r);
      ASSERT_GE(u.frames.size(), 2u);
      // KTRAP_FRAME.Rip lies at 0x168 on every x64 build.
      EXPECT_EQ(u.frames[0].trap_frame, rip_at - 0x168);
      EXPECT_EQ(u.frames[1].kind, FrameKind::machine);
      EXPECT_EQ(u.frames[1].ip, kBase + at.rva);
      EXPECT_EQ(u.frames[1].sp, c.r.sp());
      expect_caller(u, 2);
      handler.path[i].insn.run(h);
    }
    at.insn.run(c);
  }
}

// A system call or a fault in user mode: the kernel part ends there, with the user's registers.
TEST_P(TrapTest, FromUserMode) {
  const Trap trap{.error_code = GetParam(), .cs = 0x33};
  const Made handler = make(handler_shape(trap));
  load();
  Cpu c = called();
  c.r.rip = 0x7ff6'12345678;
  const Registers user = c.r;
  interrupt(c, trap, kBase + handler.begin);
  for (const Placed& at : handler.path) at.insn.run(c);
  c.r.rip = (kBase + handler.path.back().rva).value();
  const Unwound u = unwind(c.r);
  EXPECT_EQ(u.end, StackEnd::user_mode);
  EXPECT_EQ(u.cs, 0x33);
  EXPECT_EQ(u.frames.size(), 1u);
  EXPECT_EQ(u.registers.rip, user.rip);
  for (const u8 reg : kNonvolatile) EXPECT_EQ(u.registers.gpr[reg], user.gpr[reg]) << int{reg};
  EXPECT_EQ(u.registers.sp(), user.sp());
}

// DPCs and interrupts run on stacks of their own: a machine frame may lead down as well as up.
TEST_P(TrapTest, FromAnotherStack) {
  const Trap trap{.error_code = GetParam()};
  const Made victim = make(kUsual), handler = make(handler_shape(trap));
  load();
  Cpu c = called(kStack + 0x8000);
  for (size_t i = 0; i < 6; i++) victim.path[i].insn.run(c);
  c.r.rip = (kBase + victim.path[6].rva).value();
  Cpu h = c;
  h[rsp] = (kStackTop - 0x100).value();
  h.push(0x18);
  h.push(c[rsp]);
  h.push(0x202);
  h.push(trap.cs);
  h.push(c.r.rip);
  if (trap.error_code) h.push(14);
  for (const Placed& at : handler.path) at.insn.run(h);
  h.r.rip = (kBase + handler.path.back().rva).value();
  const Unwound u = unwind(h.r);
  ASSERT_EQ(u.frames.size(), 3u) << u.how();
  EXPECT_EQ(u.frames[1].sp, c.r.sp());
  expect_caller(u, 2);
}

INSTANTIATE_TEST_SUITE_P(ErrorCode, TrapTest, testing::Bool(),
                         [](const auto& i) { return i.param ? "with" : "without"; });

// ---- return addresses at the edge ----

// A call that never returns is a function's last instruction: its return address lies behind the function.
TEST_F(UnwinderTest, ReturnAddressBehindTheFunction) {
  const Made m = make({.prologue = {push(rbx), allocate(0x20)}, .body = {{.bytes = {0xe8, 0, 0, 0, 0}}}});
  load();
  Cpu c = called();
  for (const Placed& p : m.path) p.insn.run(c);
  c.r.rip = (kBase + m.end).value();
  const Unwound u = unwind(c.r, {.start_is_call = true});
  ASSERT_GE(u.frames.size(), 1u);
  EXPECT_EQ(u.frames[0].kind, FrameKind::call);
  expect_caller(u, 1);
}

// ---- without unwind data ----

class ScanTest : public UnwinderTest {
 protected:
  // A stack with what stacks hold: pointers to data, to functions' beginnings, to the middle of code,
  // numbers; and one return address.
  Cpu with_junk(VirtAddr function) {
    Cpu c = called();
    c.push(0xfffff880'00112233);
    c.push((kBase + CodeImage::kUnwind + 0x10).value());
    c.push(function.value());
    c.push((kBase + caller_.begin).value());
    c.push(0x1234);
    c.push((return_address() + 1).value());
    return c;
  }
  static inline const UnwindOptions kScan{.stack_ends = {kStackTop}};
};

TEST_F(ScanTest, FindsTheReturnAddressBehindACall) {
  const Made leaf = make({.body = {nop(), nop()}, .leaf = true});
  load({CodeImage::kPdata});
  Cpu c = with_junk(kBase + leaf.begin);
  c.r.rip = (kBase + leaf.begin + 1).value();
  const Unwound u = unwind(c.r, kScan);
  ASSERT_EQ(u.frames.size(), 2u) << u.how();
  EXPECT_EQ(u.frames[1].ip, return_address());
  EXPECT_EQ(u.frames[1].sp, caller_sp_);
  EXPECT_EQ(u.frames[1].kind, FrameKind::scan);
  EXPECT_EQ(u.frames[1].trust, Confidence::heuristic);
  EXPECT_TRUE(u.heuristic);
  EXPECT_EQ(u.end, StackEnd::no_unwind_data);
  EXPECT_EQ(u.error.why, Why::not_present);
}

// No code either, as in triage dumps: less is known, and it is said.
TEST_F(ScanTest, WithoutCodeItIsAGuess) {
  const Made leaf = make({.body = {nop(), nop()}, .leaf = true});
  load({CodeImage::kPdata, CodeImage::kText});
  Cpu c = called();
  c.r.rip = (kBase + leaf.begin + 1).value();
  const Unwound u = unwind(c.r, kScan);
  ASSERT_EQ(u.frames.size(), 2u) << u.how();
  EXPECT_EQ(u.frames[1].ip, return_address());
  EXPECT_EQ(u.frames[1].trust, Confidence::guess);
}

struct CallForm {
  const char* name;
  Bytes bytes;
  bool call;
};
class CallFormTest : public ScanTest, public testing::WithParamInterface<CallForm> {};

// A return address is what follows a call, in any of its encodings; behind a jump or a push it is a pointer.
TEST_P(CallFormTest, IsWhatMakesAReturnAddress) {
  // No unwind data for it: what leads there and on is the scan alone.
  const u32 at = code_.add_code(Bytes(8, 0x90) + GetParam().bytes + Bytes{0x90, 0x90});
  load();
  Cpu c = called();
  c.push((kBase + at + 8 + static_cast<u32>(GetParam().bytes.size())).value());
  c.r.rip = 0xfffff8a0'00001000;
  const Unwound u = unwind(c.r, kScan);
  ASSERT_EQ(u.frames.size(), GetParam().call ? 3u : 2u);
  EXPECT_EQ(u.frames.back().ip, return_address());
}

INSTANTIATE_TEST_SUITE_P(
    Encodings, CallFormTest,
    testing::Values(CallForm{"rel32", {0xe8, 1, 2, 3, 4}, true}, CallForm{"rax", {0xff, 0xd0}, true},
                    CallForm{"r11", {0x41, 0xff, 0xd3}, true}, CallForm{"at_rax", {0xff, 0x10}, true},
                    CallForm{"disp8", {0xff, 0x50, 0x10}, true},
                    CallForm{"sib_disp8", {0xff, 0x54, 0x24, 0x20}, true},
                    CallForm{"r12_disp8", {0x41, 0xff, 0x54, 0x24, 0x20}, true},
                    CallForm{"import", {0xff, 0x15, 1, 2, 3, 4}, true},
                    CallForm{"guarded_import", {0x48, 0xff, 0x15, 1, 2, 3, 4}, true},
                    CallForm{"disp32", {0xff, 0x90, 1, 2, 3, 4}, true},
                    CallForm{"sib_disp32", {0xff, 0x94, 0x24, 1, 2, 3, 4}, true},
                    CallForm{"r12_disp32", {0x41, 0xff, 0x94, 0x24, 1, 2, 3, 4}, true},
                    CallForm{"jump", {0xff, 0xe0}, false}, CallForm{"push", {0xff, 0x35, 1, 2, 3, 4}, false},
                    CallForm{"jump_rel32", {0xe9, 1, 2, 3, 4}, false},
                    CallForm{"other", {0x48, 0x89, 0xc8}, false}),
    [](const auto& i) { return i.param.name; });

// What was found by scanning stays doubtful, however sound the unwind data behind it.
TEST_F(ScanTest, DoubtIsInherited) {
  const Made m = make(kUsual);
  const u32 broken = code_.add_code({0x90, 0x90, 0x90, 0x90});
  code_.add_function(broken, broken + 4, code_.add_unwind(UnwindBytes{.version = 3}.build()));
  load();
  Cpu c = called();
  c[rsp] -= 0x18;
  c.r.rip = (kBase + broken).value();
  const Unwound u = unwind(c.r, kScan);
  ASSERT_EQ(u.frames.size(), 2u) << u.how();
  EXPECT_EQ(u.end, StackEnd::complete);
  EXPECT_EQ(u.frames[0].trust, Confidence::exact);
  EXPECT_EQ(u.frames[1].trust, Confidence::heuristic);
  EXPECT_TRUE(u.heuristic);
  (void)m;
}

TEST_F(ScanTest, NoScanWithoutBounds) {
  const Made leaf = make({.body = {nop()}, .leaf = true});
  load({CodeImage::kPdata});
  Cpu c = called();
  c.r.rip = (kBase + leaf.begin).value();
  const Unwound u = unwind(c.r);
  EXPECT_EQ(u.frames.size(), 1u);
  EXPECT_EQ(u.end, StackEnd::no_unwind_data);
  EXPECT_FALSE(u.heuristic);
  EXPECT_NE(u.how().find("no unwind data"), std::string::npos);
}

TEST_F(ScanTest, AddressInNoModule) {
  load();
  Cpu c = called();
  c.r.rip = 0xfffff8a0'00001000;
  EXPECT_EQ(unwind(c.r).end, StackEnd::no_unwind_data);
  const Unwound u = unwind(c.r, kScan);
  ASSERT_EQ(u.frames.size(), 2u) << u.how();
  EXPECT_EQ(u.frames[1].kind, FrameKind::scan);
  EXPECT_EQ(u.end, StackEnd::complete);
}

// A function that calls has unwind data; where they are missing it is no leaf.
TEST_F(ScanTest, CallerWithoutUnwindDataIsNoLeaf) {
  const u32 calls = code_.add_code({0xe8, 0, 0, 0, 0, 0x90, 0xc3});
  load();
  Cpu c = called();
  c[rsp] -= 0x30;
  c.push((kBase + calls + 5).value());
  c.r.rip = (kBase + calls + 5).value();
  const Unwound u = unwind(c.r, {.stack_ends = {kStackTop}, .start_is_call = true});
  ASSERT_GE(u.frames.size(), 2u);
  EXPECT_EQ(u.frames[1].kind, FrameKind::scan);
}

struct Broken {
  const char* name;
  UnwindBytes bytes;
};
class BrokenUnwindTest : public ScanTest, public testing::WithParamInterface<Broken> {};

// Damaged unwind data lead to a scan from where the frame began, not to a wrong caller.
TEST_P(BrokenUnwindTest, ScansFromTheFrame) {
  const u32 function = code_.add_code(Bytes(16, 0x90));
  code_.add_function(function, function + 16, code_.add_unwind(GetParam().bytes.build()));
  load();
  Cpu c = called();
  c[rsp] -= 0x10;
  c.r.rip = (kBase + function + 8).value();
  const Unwound u = unwind(c.r, kScan);
  ASSERT_EQ(u.frames.size(), 2u) << u.how();
  EXPECT_EQ(u.frames[1].kind, FrameKind::scan);
  EXPECT_EQ(u.frames[1].ip, return_address());
  EXPECT_EQ(u.error.why == Why::bad_file || u.error.why == Why::unsupported, true) << text(u.error);
}

INSTANTIATE_TEST_SUITE_P(All, BrokenUnwindTest,
                         testing::Values(Broken{"version_3", {.version = 3, .codes = {0, 0x02}}},
                                         Broken{"version_0", {.version = 0, .codes = {0, 0x02}}},
                                         Broken{"codes_run_over_their_count", {.codes = {0, 0x02, 0, 0x11}}},
                                         Broken{"unknown_code", {.codes = {0, 0x0f}}}),
                         [](const auto& i) { return i.param.name; });

// Unwind data that are chained to themselves end, and nothing of their repeated codes is believed.
TEST_F(ScanTest, ChainToItselfEnds) {
  const u32 function = code_.add_code(Bytes(16, 0x90));
  const u32 at = code_.next_unwind();
  const UnwindBytes u{
      .flags = UnwindBytes::kChained, .codes = {0, 0x42}, .chained = {function, function + 16, at}};
  code_.add_function(function, function + 16, code_.add_unwind(u.build()));
  load();
  Cpu c = called();
  c[rsp] -= 0x28;
  c.r.rip = (kBase + function + 8).value();
  EXPECT_EQ(unwind(c.r).end, StackEnd::no_unwind_data);
  const Unwound scanned = unwind(c.r, kScan);
  ASSERT_EQ(scanned.frames.size(), 2u) << scanned.how();
  EXPECT_EQ(scanned.frames[1].ip, return_address());
}

// ---- how a stack ends ----

TEST_F(UnwinderTest, UnreadableStack) {
  const Made m = make(kUsual);
  load();
  Cpu c = called(kStack + 0x5000);
  for (size_t i = 0; i < 5; i++) m.path[i].insn.run(c);
  c.r.rip = (kBase + m.path[5].rva).value();
  memory_.set_pte(kStack + 0x4000, 0);
  space_.emplace(memory_.pages(), memory_.dtb(), memory::PagingRules{});
  const Unwound u = unwind(c.r);
  EXPECT_EQ(u.end, StackEnd::unreadable) << u.how();
  EXPECT_EQ(u.frames.size(), 1u);
  EXPECT_EQ(u.error.why, Why::not_present);
  EXPECT_NE(u.how().find("cannot be read"), std::string::npos);
}

TEST_F(UnwinderTest, StackPointerThatGoesBackIsCorrupt) {
  const Made m = make({.prologue = {push(rbp), allocate(0x40), set_frame(rbp, 0x20)},
                       .body = {nop()},
                       .epilogue = {lea_rsp(rbp, 0x20), pop(rbp), ret()},
                       .frame_register = rbp,
                       .frame_offset = 2});
  load();
  Cpu c = called();
  for (size_t i = 0; i < 3; i++) m.path[i].insn.run(c);
  c.r.rip = (kBase + m.path[3].rva).value();
  c[rbp] = (kStack + 0x100).value();
  memory_.put(kStack + 0x100 - 0x20 + 0x48, return_address().value());
  const Unwound u = unwind(c.r);
  EXPECT_EQ(u.end, StackEnd::corrupt) << u.how();
  EXPECT_EQ(u.frames.size(), 1u);
}

TEST_F(UnwinderTest, MachineFrameWithANonsenseStackPointerIsCorrupt) {
  const Trap trap;
  const Made handler = make(handler_shape(trap));
  load();
  Cpu c = called();
  c.r.rip = return_address().value();
  interrupt(c, trap, kBase + handler.begin);
  memory_.put(c.r.sp() + 24, u64{0x4141'4141'4141'4141});
  c.r.rip = (kBase + handler.begin).value();
  EXPECT_EQ(unwind(c.r).end, StackEnd::corrupt);
}

TEST_F(UnwinderTest, EndlessRecursionMeetsTheLimit) {
  load();
  Cpu c = called();
  // The caller's frame over and over: every return address is its own.
  for (VirtAddr at = kStack; at < kStackTop; at += 8) memory_.put(at, return_address().value());
  c.r.rip = return_address().value();
  c[rsp] = (kStack + 0x100).value();
  const Unwound u = unwind(c.r, {.most_frames = 20});
  EXPECT_EQ(u.end, StackEnd::limit);
  EXPECT_EQ(u.frames.size(), 20u);
  EXPECT_EQ(u.frames[19].sp, kStack + 0x100 + 19 * 0x30);
  EXPECT_EQ(u.how(), "stopped after 20 frames");
}

TEST_F(UnwinderTest, ReturnAddressZeroIsTheEnd) {
  load();
  Registers r;
  r.gpr[rsp] = kStack.value();
  const Unwound u = unwind(r);
  EXPECT_EQ(u.end, StackEnd::complete);
  EXPECT_TRUE(u.frames.empty());
}

}  // namespace
}  // namespace unhang::stack
