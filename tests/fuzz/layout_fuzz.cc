// Layout files: the cache is on disk, where anybody may have written.
#include "symbols/layout.h"

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  using namespace unhang;
  const auto layout = symbols::Layout::from_bytes({data, data + size}, "fuzz");
  if (!layout) return 0;
  for (const char* type : {"_EPROCESS", "_KTHREAD", "_ERESOURCE", "_IRP"}) {
    (void)(*layout)->find_type(type);
    for (const char* path : {"Tail.Overlay.Thread", "OwnerEntry.OwnerThread", "Pcb.Header.Type", "Flag"})
      (void)(*layout)->field(type, path);
  }
  (void)(*layout)->enumerator("_KWAIT_REASON", 3);
  for (const char* symbol : {"KiSwapContext", "PsActiveProcessHead", ""})
    (void)(*layout)->find_symbol(symbol);
  for (const u64 rva : {u64{0}, u64{0x1000}, u64{0x123456}, ~u64{0}}) {
    (void)(*layout)->symbol_at(Rva(rva));
    (void)(*layout)->symbol_after(Rva(rva));
  }
  return 0;
}
