#!/bin/sh
# Makes the samples anew from tests/guest: the dump, its PDBs, and what is true of it. Needs what
# tests/guest needs, and xz.
# With the same versions of clang, lld and QEMU the files come out byte for byte as they are here.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
guest=$here/../tests/guest
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
"$guest/build.sh" "$out"
"$guest/run.sh" "$out"
xz -9e -T1 -c "$out/hang.elf" >"$here/hang.elf.xz"
for file in truth.json ntkrnlmp.pdb ntfs.pdb volmgr.pdb ntdll.pdb service.pdb php-cgi.pdb; do cp "$out/$file" "$here/$file"; done
ls -l "$here"
