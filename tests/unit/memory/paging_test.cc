// Address translation, one situation a file under tests/paging/: table entries, then what addresses must lead
// to. The files' form:
//
//   # what the situation is
//   levels 4            paging levels; 4 when left out
//   ram 100000000       where RAM ends, for L1TF; unknown when left out
//   1000[1f0] = 2063    an entry: table's physical address, index, value; the first table is the root
//   page 5000           a page that is there though nothing leads to it
//   VA: PA              translates to this, and the page can be read
//   VA: PA 2M           the same through a page of 2 MiB (1G: 1 GiB)
//   VA: PA transition   the same by way of such an entry (or: prototype)
//   VA: PA absent       translates, but the dump does not hold the page
//   VA: why LEVEL text  fails in this way, at this level (0: no one level), with this text in the sentence
//
// Numbers are hexadecimal.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "base/format.h"
#include "memory/address_space.h"
#include "memory/read.h"
#include "synth/memory.h"

namespace unhang::memory {
namespace {

namespace fs = std::filesystem;

u64 hex_number(const std::string& s) {
  size_t used = 0;
  const u64 v = std::stoull(s, &used, 16);
  if (used != s.size()) throw std::invalid_argument(s);
  return v;
}

struct Expectation {
  size_t line = 0;
  VirtAddr va{};
  std::vector<std::string> words;
};

struct Situation {
  PagingRules rules;
  PhysAddr root{};
  synth::Pages pages;
  std::set<PhysAddr> tables;
  std::vector<Expectation> expectations;
};

void read_line(Situation& s, size_t number, const std::string& line) {
  std::istringstream in(line);
  std::vector<std::string> words;
  for (std::string w; in >> w;) words.push_back(w);
  if (words.empty() || words[0][0] == '#') return;
  if (words[0] == "levels") {
    s.rules.levels = std::stoi(words.at(1));
  } else if (words[0] == "ram") {
    s.rules.end_of_ram = PhysAddr(hex_number(words.at(1)));
  } else if (words[0] == "page") {
    s.pages.page(Pfn{hex_number(words.at(1)) >> kPageShift});
  } else if (words.size() == 3 && words[1] == "=") {
    const auto open = words[0].find('['), close = words[0].find(']');
    const PhysAddr table(hex_number(words[0].substr(0, open)));
    const u64 index = hex_number(words[0].substr(open + 1, close - open - 1)), value = hex_number(words[2]);
    if (index >= 512) throw std::invalid_argument(words[0]);
    if (s.root.is_null()) s.root = table;
    s.tables.insert(table);
    s.pages.write(table + index * 8, {reinterpret_cast<const u8*>(&value), sizeof value});
  } else if (words[0].ends_with(':')) {
    words[0].pop_back();
    Expectation e{number, VirtAddr(hex_number(words[0])), {words.begin() + 1, words.end()}};
    if (e.words.empty()) throw std::invalid_argument(line);
    s.expectations.push_back(std::move(e));
  } else {
    throw std::invalid_argument(line);
  }
}

bool is_error(const std::string& word) {
  return word.find('_') != word.npos;
}

void expect_error(const Expectation& e, const Error& error) {
  EXPECT_EQ(name(error.why), e.words[0]) << text(error);
  EXPECT_EQ(int{error.level}, std::stoi(e.words.at(1))) << text(error);
  EXPECT_EQ(error.va, e.va);
  std::string wanted;
  for (size_t i = 2; i < e.words.size(); i++) wanted += (i > 2 ? " " : "") + e.words[i];
  EXPECT_NE(text(error).find(wanted), std::string::npos) << text(error);
}

void expect_mapping(const Expectation& e, const Mapping& m, const AddressSpace& space,
                    const synth::Pages& pages) {
  const PhysAddr pa(hex_number(e.words[0]));
  EXPECT_EQ(m.pa, pa) << fmt::format("{:#x}", m.pa.value());
  bool absent = false;
  u64 size = kPageSize;
  Via via = Via::valid;
  for (size_t i = 1; i < e.words.size(); i++) {
    const std::string& w = e.words[i];
    if (w == "absent")
      absent = true;
    else if (w == "2M")
      size = u64{2} << 20;
    else if (w == "1G")
      size = u64{1} << 30;
    else if (w == "transition")
      via = Via::transition;
    else if (w == "prototype")
      via = Via::prototype;
    else
      ADD_FAILURE() << "unknown word " << w;
  }
  EXPECT_EQ(m.page_size, size);
  EXPECT_EQ(m.via, via);
  const auto byte = read<u8>(space, e.va);
  if (absent) {
    ASSERT_FALSE(byte.has_value());
    EXPECT_EQ(byte.error().why, Why::not_in_dump);
    EXPECT_EQ(byte.error().va, e.va);
    return;
  }
  ASSERT_TRUE(byte.has_value()) << text(byte.error());
  // The byte at this physical address, not some other one.
  EXPECT_EQ(*byte, *read<u8>(pages, pa));
}

class PagingTest : public testing::TestWithParam<std::string> {};

TEST_P(PagingTest, LeadsWhereTheFileSays) {
  std::ifstream in(GetParam());
  ASSERT_TRUE(in.is_open());
  Situation s;
  size_t number = 0;
  for (std::string line; std::getline(in, line);) read_line(s, ++number, line);
  ASSERT_FALSE(s.expectations.empty()) << "a situation without an expectation";
  for (const Expectation& e : s.expectations) {
    if (is_error(e.words[0]) || e.words.back() == "absent") continue;
    const PhysAddr pa(hex_number(e.words[0]));
    if (s.tables.contains(pa.page())) continue;  // a table seen through the self-map
    const u8 mark = static_cast<u8>(pa.value() * 0x9d >> 3 | 1);
    s.pages.write(pa, {&mark, 1});
  }
  const AddressSpace space(s.pages, s.root, s.rules);
  // Twice: the second time what is cached answers.
  for (int round = 0; round < 2; round++)
    for (const Expectation& e : s.expectations) {
      SCOPED_TRACE(fmt::format("{}:{}", fs::path(GetParam()).filename().string(), e.line));
      const auto m = space.translate(e.va);
      const Walk walk = space.walk(e.va);
      ASSERT_EQ(m.has_value(), walk.mapping.has_value());
      if (!is_error(e.words[0])) {
        ASSERT_TRUE(m.has_value()) << text(m.error());
        expect_mapping(e, *m, space, s.pages);
        EXPECT_EQ(walk.mapping->pa, m->pa);
        continue;
      }
      ASSERT_FALSE(m.has_value()) << fmt::format("{:#x}", m->pa.value());
      expect_error(e, m.error());
      const auto byte = read<u8>(space, e.va);
      ASSERT_FALSE(byte.has_value());
      expect_error(e, byte.error());
    }
}

std::vector<std::string> files() {
  std::vector<std::string> out;
  for (const auto& f : fs::directory_iterator(UNHANG_SOURCE_DIR "/tests/paging"))
    if (f.path().extension() == ".txt") out.push_back(f.path().string());
  std::sort(out.begin(), out.end());
  return out;
}

INSTANTIATE_TEST_SUITE_P(Files, PagingTest, testing::ValuesIn(files()),
                         [](const auto& i) { return fs::path(i.param).stem().string(); });

// Which entries a walk read, top level first: what !pte and --why print.
TEST(PagingWalk, StepsFromTheTopDown) {
  synth::Memory memory;
  const VirtAddr va(0xfffff800'12345678);
  memory.map(va, 1);
  const AddressSpace space(memory.pages(), memory.dtb(), {});
  const Walk w = space.walk(va);
  ASSERT_EQ(w.steps.size(), 4u);
  for (u8 i = 0; i < 4; i++) EXPECT_EQ(w.steps[i].level, 4 - i);
  EXPECT_EQ(w.steps[0].entry_pa, memory.dtb() + 0x1f0 * 8);
  EXPECT_EQ(w.steps[3].entry, memory.pte(va));
  EXPECT_EQ(w.mapping->pa.page().value(), memory.pte(va) & 0x000f'ffff'ffff'f000);
  // A walk that fails still says how far it came.
  const Walk other = space.walk(va + (u64{1} << 21));
  EXPECT_EQ(other.steps.size(), 3u);
  EXPECT_EQ(other.mapping.error().level, 2);
}

}  // namespace
}  // namespace unhang::memory
