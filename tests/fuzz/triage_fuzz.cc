#include "fuzz.h"

FUZZ_FORMATS("windows-triage")
