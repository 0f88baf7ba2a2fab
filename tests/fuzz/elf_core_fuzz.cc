#include "fuzz.h"

FUZZ_FORMATS("elf-core")
