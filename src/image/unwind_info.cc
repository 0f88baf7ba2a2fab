#include "image/unwind_info.h"

#include <array>

#include "base/bytes.h"
#include "memory/read.h"

namespace unhang::image {

namespace {

constexpr u8 kChainInfo = 4;

std::unexpected<Error> bad(const char* detail) {
  return fail(Error{.why = Why::bad_file, .type = "UNWIND_INFO", .detail = detail});
}

// Slots that one code takes, 0 for an unknown one.
u32 slots(UnwindOp op, u8 info, u8 version) {
  switch (op) {
    case UnwindOp::push_nonvol:
    case UnwindOp::alloc_small:
    case UnwindOp::set_fpreg:
    case UnwindOp::push_machframe:
      return 1;
    case UnwindOp::alloc_large:
      return info == 0 ? 2 : 3;
    case UnwindOp::save_nonvol:
    case UnwindOp::save_xmm128:
      return 2;
    case UnwindOp::save_nonvol_far:
    case UnwindOp::save_xmm128_far:
      return 3;
    case UnwindOp::epilog:
      return version == 2 ? 1 : 2;
    case UnwindOp::spare:
      return version == 2 ? 2 : 3;
  }
  return 0;
}

u32 operand(const ByteView& b, u64 at, UnwindOp op, u8 info) {
  switch (op) {
    case UnwindOp::alloc_small:
      return info * 8u + 8;
    case UnwindOp::alloc_large:
      return info == 0 ? b.at<u16>(at + 2) * 8u : b.at<u32>(at + 2);
    case UnwindOp::save_nonvol:
      return b.at<u16>(at + 2) * 8u;
    case UnwindOp::save_xmm128:
      return b.at<u16>(at + 2) * 16u;
    case UnwindOp::save_nonvol_far:
    case UnwindOp::save_xmm128_far:
      return b.at<u32>(at + 2);
    default:
      return 0;
  }
}

}  // namespace

Result<UnwindInfo> read_unwind_info(const Source<Rva>& image, Rva rva) {
  std::array<u8, 4> head{};
  TRY_VOID(memory::read_exact(image, rva, head));
  UnwindInfo u;
  u.version = head[0] & 7;
  u.flags = head[0] >> 3;
  u.prolog_size = head[1];
  u.frame_register = head[3] & 15;
  u.frame_offset = (head[3] >> 4) * 16u;
  if (u.version != 1 && u.version != 2)
    return fail(
        Error{.why = Why::unsupported, .type = "UNWIND_INFO", .detail = "unknown version of unwind data"});
  const u32 count = head[2];
  std::array<u8, 512> raw{};
  TRY_VOID(memory::read_exact(image, rva + 4, std::span(raw).first(count * 2)));
  const ByteView b(raw.data(), count * 2);
  for (u32 i = 0; i < count;) {
    const u64 at = i * 2ULL;
    UnwindCode c{.offset = b.at<u8>(at),
                 .op = static_cast<UnwindOp>(b.at<u8>(at + 1) & 15),
                 .info = static_cast<u8>(b.at<u8>(at + 1) >> 4)};
    const u32 n = slots(c.op, c.info, u.version);
    if (n == 0) return bad("an unknown unwind code");
    if (i + n > count) return bad("unwind codes run over their count");
    c.operand = operand(b, at, c.op, c.info);
    // Epilogue codes tell where epilogues are; ours are recognised by their instructions, in both versions.
    if (c.op != UnwindOp::epilog && c.op != UnwindOp::spare) u.codes.push_back(c);
    i += n;
  }
  if ((u.flags & kChainInfo) != 0)
    u.chained = TRY(memory::read<RuntimeFunction>(image, rva + 4 + ((count + 1) & ~u64{1}) * 2));
  return u;
}

}  // namespace unhang::image
