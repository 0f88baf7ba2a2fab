#include "fuzz.h"

FUZZ_FORMATS("lime")
