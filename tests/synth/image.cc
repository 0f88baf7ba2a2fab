#include "synth/image.h"

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace unhang::synth {

namespace {

// Fixed places: enough for a few hundred functions and 64 KiB of data.
constexpr u32 kText = 0x1000, kTextSize = 0x20000;
constexpr u32 kRdata = kText + kTextSize, kRdataSize = 0x10000;  // unwind data, CodeView, exports
constexpr u32 kPdata = kRdata + kRdataSize, kPdataSize = 0x2000;
constexpr u32 kData = kPdata + kPdataSize, kDataSize = 0x20000;
constexpr u32 kImageSize = kData + kDataSize;
constexpr u32 kFunctionSize = 0x80;
constexpr u64 kOptionalHeader = 0x98;

template <class T>
void put(std::vector<u8>& b, u64 at, T v) {
  UNHANG_CHECK(at + sizeof v <= b.size());
  std::memcpy(b.data() + at, &v, sizeof v);
}
void put_text(std::vector<u8>& b, u64 at, const std::string& s) {
  UNHANG_CHECK(at + s.size() + 1 <= b.size());
  std::memcpy(b.data() + at, s.c_str(), s.size() + 1);
}

// Prologue bytes and unwind codes (last instruction first).
struct Prologue {
  std::vector<u8> code;
  std::vector<u8> unwind;  // the whole UNWIND_INFO
};

Prologue prologue(const FunctionShape& s) {
  Prologue p;
  std::vector<std::vector<u8>> codes;
  u8 frame_register = 0;
  auto emit = [&](std::initializer_list<u8> bytes) { p.code.insert(p.code.end(), bytes); };
  auto code = [&](std::initializer_list<u8> rest) {
    std::vector<u8> c{static_cast<u8>(p.code.size())};
    c.insert(c.end(), rest);
    codes.push_back(c);
  };
  if (s.machine_frame) code({0x0a});  // UWOP_PUSH_MACHFRAME, no error code
  if (s.push_rbx) {
    emit({0x53});
    code({0x30});  // UWOP_PUSH_NONVOL rbx
  }
  if (s.push_rbp_frame) {
    emit({0x55});
    code({0x50});  // rbp
  }
  if (s.frame != 0) {
    emit({0x48, 0x81, 0xec, static_cast<u8>(s.frame), static_cast<u8>(s.frame >> 8),
          static_cast<u8>(s.frame >> 16), static_cast<u8>(s.frame >> 24)});
    code({0x01, static_cast<u8>(s.frame / 8),
          static_cast<u8>(s.frame / 8 >> 8)});  // UWOP_ALLOC_LARGE, 16 bits
  }
  if (s.push_rbp_frame) {
    emit({0x48, 0x8d, 0x6c, 0x24, 0x20});  // lea rbp, [rsp+0x20]
    code({0x03});                          // UWOP_SET_FPREG
    frame_register = 5 | 2 << 4;
  }
  std::reverse(codes.begin(), codes.end());
  u8 slots = 0;
  std::vector<u8> bytes;
  for (const auto& c : codes) {
    bytes.insert(bytes.end(), c.begin(), c.end());
    slots = static_cast<u8>(slots + c.size() / 2);
  }
  p.unwind = {1, static_cast<u8>(p.code.size()), slots, frame_register};
  p.unwind.insert(p.unwind.end(), bytes.begin(), bytes.end());
  p.unwind.resize((p.unwind.size() + 3) & ~size_t{3});
  return p;
}

}  // namespace

void put_headers(std::vector<u8>& b, std::span<const SectionPlan> sections) {
  put_text(b, 0, "MZ");
  put<u32>(b, 0x3c, 0x80);
  put<u32>(b, 0x80, 0x4550);
  put<u16>(b, 0x84, 0x8664);
  put<u16>(b, 0x86, static_cast<u16>(sections.size()));
  put<u32>(b, 0x88, 0x5f3759df);  // time stamp
  put<u16>(b, 0x94, 0xf0);        // size of the optional header
  put<u16>(b, kOptionalHeader, 0x20b);
  put<u32>(b, kOptionalHeader + 16, sections.front().rva);
  put<u32>(b, kOptionalHeader + 56, static_cast<u32>(b.size()));
  put<u32>(b, kOptionalHeader + 60, 0x1000);
  put<u32>(b, kOptionalHeader + 108, 16);
  u64 at = kOptionalHeader + 0xf0;
  for (const SectionPlan& s : sections) {
    std::memcpy(b.data() + at, s.name, std::strlen(s.name));
    put<u32>(b, at + 8, s.size);
    put<u32>(b, at + 12, s.rva);
    put<u32>(b, at + 16, s.size);
    put<u32>(b, at + 36, s.flags);
    at += 40;
  }
}

void put_directory(std::vector<u8>& b, u32 number, u32 rva, u32 size) {
  put<u32>(b, kOptionalHeader + 112 + number * 8, rva);
  put<u32>(b, kOptionalHeader + 116 + number * 8, size);
}

ImageBuilder::ImageBuilder(std::string file_name, image::PdbId pdb)
    : file_name_(std::move(file_name)), pdb_(std::move(pdb)) {}

u32 ImageBuilder::stack_use(const FunctionShape& s) {
  return s.frame + (s.push_rbx ? 8 : 0) + (s.push_rbp_frame ? 8 : 0);
}

const Function& ImageBuilder::add_function(const std::string& name, FunctionShape shape, bool exported) {
  for (const Function& f : functions_)
    if (f.name == name) return f;
  Function f{.name = name, .shape = shape, .exported = exported};
  f.begin = kText + static_cast<u32>(functions_.size()) * kFunctionSize;
  UNHANG_CHECK(f.begin + kFunctionSize <= kText + kTextSize);
  f.end = f.begin + kFunctionSize - 0x10;
  f.call_site = f.begin + 0x40;
  functions_.push_back(f);
  return functions_.back();
}

u32 ImageBuilder::add_data(const std::string& name, u32 size, bool exported) {
  next_data_ = (next_data_ + 15) & ~15u;
  const u32 rva = kData + next_data_;
  next_data_ += size;
  UNHANG_CHECK(next_data_ <= kDataSize);
  data_.push_back({name, rva, size, exported});
  return rva;
}

const Function& ImageBuilder::function(const std::string& name) const {
  const auto f =
      std::find_if(functions_.begin(), functions_.end(), [&](const Function& x) { return x.name == name; });
  UNHANG_CHECK(f != functions_.end());
  return *f;
}

u32 ImageBuilder::rva_of(const std::string& name) const {
  for (const Function& f : functions_)
    if (f.name == name) return f.begin;
  const auto d = std::find_if(data_.begin(), data_.end(), [&](const Data& x) { return x.name == name; });
  UNHANG_CHECK(d != data_.end());
  return d->rva;
}

std::vector<std::pair<std::string, u32>> ImageBuilder::symbols() const {
  std::vector<std::pair<std::string, u32>> out;
  for (const Function& f : functions_) out.emplace_back(f.name, f.begin);
  for (const Data& d : data_) out.emplace_back(d.name, d.rva);
  return out;
}

u32 ImageBuilder::size() const {
  return kImageSize;
}

std::vector<u8> ImageBuilder::build() {
  std::vector<u8> b(kImageSize);
  const SectionPlan sections[] = {{".text", kText, kTextSize, kCodeSection},
                                  {".rdata", kRdata, kRdataSize, kReadOnlySection},
                                  {".pdata", kPdata, kPdataSize, kReadOnlySection},
                                  {".data", kData, kDataSize, kDataSection}};
  put_headers(b, sections);
  // Code, unwind data, function table.
  u32 rdata = kRdata, pdata = kPdata;
  for (const Function& f : functions_) {
    std::memset(b.data() + f.begin, 0x90, f.end - f.begin);
    std::memset(b.data() + f.end, 0xcc, kFunctionSize - (f.end - f.begin));
    const Prologue p = prologue(f.shape);
    if (!f.shape.leaf) {
      std::memcpy(b.data() + f.begin, p.code.data(), p.code.size());
      std::memcpy(b.data() + rdata, p.unwind.data(), p.unwind.size());
      put<u32>(b, pdata, f.begin);
      put<u32>(b, pdata + 4, f.end);
      put<u32>(b, pdata + 8, rdata);
      pdata += 12;
      rdata += static_cast<u32>(p.unwind.size());
    }
    b[f.call_site - 5] = 0xe8;  // call rel32
  }
  put_directory(b, 3, kPdata, pdata - kPdata);
  // CodeView.
  if (!pdb_.name.empty()) {
    rdata = (rdata + 15) & ~15u;
    put_directory(b, 6, rdata, 28);
    put<u32>(b, rdata + 12, 2);
    put<u32>(b, rdata + 16, static_cast<u32>(25 + pdb_.name.size()));
    put<u32>(b, rdata + 20, rdata + 28);
    put<u32>(b, rdata + 28, 0x53445352);
    std::memcpy(b.data() + rdata + 32, pdb_.guid.data(), 16);
    put<u32>(b, rdata + 48, pdb_.age);
    put_text(b, rdata + 52, pdb_.name);
    rdata += 64 + static_cast<u32>(pdb_.name.size());
  }
  // Exports, sorted by name as the loader wants them.
  rdata = (rdata + 15) & ~15u;
  std::vector<std::pair<std::string, u32>> exports;
  for (const Function& f : functions_)
    if (f.exported) exports.emplace_back(f.name, f.begin);
  for (const Data& d : data_)
    if (d.exported) exports.emplace_back(d.name, d.rva);
  std::sort(exports.begin(), exports.end());
  const u32 n = static_cast<u32>(exports.size()), dir = rdata, functions = dir + 40,
            names = functions + n * 4, ordinals = names + n * 4;
  u32 strings = ordinals + n * 2;
  put<u32>(b, dir + 12, strings);
  put_text(b, strings, file_name_);
  strings += static_cast<u32>(file_name_.size()) + 1;
  put<u32>(b, dir + 16, 1);
  put<u32>(b, dir + 20, n);
  put<u32>(b, dir + 24, n);
  put<u32>(b, dir + 28, functions);
  put<u32>(b, dir + 32, names);
  put<u32>(b, dir + 36, ordinals);
  for (u32 i = 0; i < n; i++) {
    put<u32>(b, functions + i * 4, exports[i].second);
    put<u32>(b, names + i * 4, strings);
    put<u16>(b, ordinals + i * 2, static_cast<u16>(i));
    put_text(b, strings, exports[i].first);
    strings += static_cast<u32>(exports[i].first.size()) + 1;
  }
  UNHANG_CHECK(strings <= kRdata + kRdataSize);
  put_directory(b, 0, dir, strings - dir);
  return b;
}

}  // namespace unhang::synth
