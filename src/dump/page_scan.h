// A search of all physical memory, page by page, on all processors of the host, for as long as it may take.
#pragma once

#include <chrono>
#include <functional>
#include <vector>

#include "dump/pages.h"

namespace unhang::dump {

struct ScanOptions {
  unsigned threads = 0;  // 0: one for each CPU of the host
  std::chrono::milliseconds budget{4000};
};

struct PageScan {
  std::vector<PhysAddr> pages;  // that were wanted, in ascending order
  // How much of the memory was looked at before the time was up. Not: what cannot be read, or not as one
  // page.
  u64 bytes_scanned = 0, bytes_total = 0;
  double seconds = 0;
};

// wanted is asked of each page that the dump holds, from several threads at once.
PageScan scan_pages(const PageSource<PhysAddr>& physical, const ScanOptions& options,
                    const std::function<bool(const u8* page)>& wanted);

}  // namespace unhang::dump
