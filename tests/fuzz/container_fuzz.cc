// Compressed dumps of any form.
#include "fuzz.h"

FUZZ_FORMATS()
