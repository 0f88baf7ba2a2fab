#include "fuzz.h"

FUZZ_FORMATS("libvirt-save")
