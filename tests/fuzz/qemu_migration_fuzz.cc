#include "fuzz.h"

FUZZ_FORMATS("qemu-migration")
