// Ctrl-C and its relatives: noted, so that whoever works can clean up. A second one ends the program.
#pragma once

#include <chrono>

namespace unhang::app {

class Interrupt {
 public:
  Interrupt();  // one at a time
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;

  // The signal that came; 0: none.
  static int signal();
  // Becomes and stays readable when one comes.
  static int descriptor();
  // False when a signal came before the end.
  static bool sleep(std::chrono::milliseconds time);
};

}  // namespace unhang::app
