#include "fuzz.h"

FUZZ_FORMATS("windows-crash-dump")
