#include "fuzz.h"

FUZZ_FORMATS("kdump")
