#!/bin/sh
# The whole test: build the guest, boot and dump it, judge the tool on the dump; and once more with an encoded KDBG.
# Usage: run.sh UNHANG OUTDIR. Exit status 77: something that it needs is not installed.
set -eu
unhang=${1:?usage: run.sh UNHANG OUTDIR}
out=${2:?usage: run.sh UNHANG OUTDIR}
here=$(dirname "$0")
have() { for name in "$@"; do if command -v "$name" >/dev/null; then return; fi; done; echo "run.sh: skipped: no $1"; exit 77; }
have python3
have "${QEMU:-qemu-system-x86_64}"
have "${CLANG:-clang-22}" clang
have "${LLD_LINK:-lld-link-22}" lld-link
have "${LD_LLD:-ld.lld-22}" ld.lld
have "${OBJCOPY:-llvm-objcopy-22}" llvm-objcopy
mkdir -p "$out"
"$here/build.sh" "$out"
status=0
python3 "$here/dump.py" "$out" --kdbg encoded
python3 "$here/check.py" "$unhang" "$out" --with-symbols-only || status=1
python3 "$here/dump.py" "$out"
python3 "$here/check.py" "$unhang" "$out" || status=1
exit $status
