// NTFS index buffers and file records.
#include <cstdlib>
#include <vector>

#include "nt/ntfs/record.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace unhang;
  namespace ntfs = nt::ntfs;
  for (const size_t record : {size_t{1024}, size_t{4096}}) {
    std::vector<u8> bytes(data, data + std::min(size, record));
    bytes.resize(record);
    (void)ntfs::apply_fixups(bytes);
    size_t names = 0;
    const auto visit = [&](const ntfs::Name& n) {
      if (n.utf16.size() > 512 || ++names > record) std::abort();
    };
    ntfs::for_each_index_name(bytes, visit);
    ntfs::for_each_file_name(bytes, visit);
  }
  return 0;
}
