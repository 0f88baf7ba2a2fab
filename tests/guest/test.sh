#!/bin/sh
# The whole test: build the guest, boot it, dump it in several ways, judge the tool on each dump.
# Usage: test.sh UNHANG OUTDIR. Exit status 77: something that it needs is not installed.
set -eu
unhang=${1:?usage: test.sh UNHANG OUTDIR}
out=${2:?usage: test.sh UNHANG OUTDIR}
here=$(dirname "$0")
have() { for name in "$@"; do if command -v "$name" >/dev/null; then return; fi; done; echo "test.sh: skipped: no $1"; exit 77; }
have python3
have "${QEMU:-qemu-system-x86_64}"
have "${CLANG:-clang-22}" clang
have "${LLD_LINK:-lld-link-22}" lld-link
have "${LD_LLD:-ld.lld-22}" ld.lld
have "${OBJCOPY:-llvm-objcopy-22}" llvm-objcopy
mkdir -p "$out"
python3 "$here/layout.py" --facts "$here/inc" "$here/../../src/symbols/facts"
"$here/build.sh" "$out"
status=0
judge() { # judge OPTIONS-OF-CHECK -- OPTIONS-OF-DUMP
  options=
  while [ "$1" != -- ]; do options="$options $1"; shift; done
  shift
  echo "dump.py $*"
  python3 "$here/dump.py" "$out" "$@" && python3 "$here/check.py" "$unhang" "$out" $options || status=1
}
judge -- --kdbg encoded
judge -- --kdbg encoded --header
judge -- --format win-dmp
judge --
exit $status
