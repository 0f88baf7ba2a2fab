#include "fuzz.h"

FUZZ_FORMATS("vmware")
