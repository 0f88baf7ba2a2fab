#!/bin/sh
# Builds the guest into OUTDIR: images, their PDBs, the boot loader. Takes some seconds.
# Usage: build.sh OUTDIR. The tools' names can be given: CLANG, LLD_LINK, LD_LLD, OBJCOPY.
set -eu
out=${1:?usage: build.sh OUTDIR}
mkdir -p "$out/obj"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")"

tool() { # tool VALUE NAME...: the given one, or the first that is there
  if [ -n "$1" ]; then echo "$1"; return; fi
  shift
  for name in "$@"; do if command -v "$name" >/dev/null; then echo "$name"; return; fi; done
  echo "build.sh: none of: $*" >&2
  exit 1
}
clang=$(tool "${CLANG-}" clang-22 clang)
link=$(tool "${LLD_LINK-}" lld-link-22 lld-link)
ld=$(tool "${LD_LLD-}" ld.lld-22 ld.lld)
objcopy=$(tool "${OBJCOPY-}" llvm-objcopy-22 llvm-objcopy)

# Unwind data for C need -fasynchronous-unwind-tables beside -ffreestanding. Frames of the scene must not vanish:
# no inlining, no tail calls. No path of this machine gets into the images.
flags="--target=x86_64-pc-windows-msvc -ffreestanding -fno-stack-protector -fasynchronous-unwind-tables -fno-builtin
 -fno-inline -fno-optimize-sibling-calls -fshort-wchar -O1 -g -gcodeview -gno-codeview-command-line -gno-column-info
 -fstandalone-debug -ffile-prefix-map=$PWD=guest -fdebug-compilation-dir=guest -Wall -Wextra -Werror
 -Wno-unused-parameter -Wno-missing-field-initializers"
if ! $clang $flags -fsyntax-only -x c /dev/null 2>/dev/null; then
  echo "build.sh: skipped: $clang is too old" >&2
  exit 77
fi
common="/nologo /machine:x64 /nodefaultlib /dynamicbase /debug:full /Brepro /opt:noref /base:0x140000000"

compile() { # compile SOURCE...: prints the objects' names
  for source in "$@"; do
    object="obj/$(echo "$source" | tr '/.' '__').obj"
    case $source in
      *.S) $clang --target=x86_64-pc-windows-msvc -c "$source" -o "$out/$object" ;;
      *) $clang $flags -Xclang "-object-file-name=$object" -c "$source" -o "$out/$object" ;;
    esac
    echo "$object"
  done
}
# Linked in OUTDIR with relative names: PDBs keep the names of the objects and the command line.
image() { # image NAME PDB OPTIONS...
  name=$1 pdb=$2
  shift 2
  (cd "$out" && $link $common "/pdb:$pdb" "/pdbaltpath:$pdb" "/pdbsourcepath:C:\\guest" "/out:$name" "$@")
}

python3 layout.py --header inc >"$out/obj/layout.c"
$clang $flags -I"$PWD/nt" -fsyntax-only "$out/obj/layout.c"

kernel=$(compile nt/*.c nt/asm.S)
image ntoskrnl.exe ntkrnlmp.pdb /dll /driver /subsystem:native,10.0 /entry:KiSystemStartup /section:INIT,ERD \
  /implib:obj/ntoskrnl.lib $kernel
driver="/driver /subsystem:native,10.0 /entry:DriverEntry obj/ntoskrnl.lib"
ntfs=$(compile drv/ntfs.c drv/index.c)
image Ntfs.sys ntfs.pdb $driver $ntfs
volmgr=$(compile drv/volmgr.c)
image volmgr.sys volmgr.pdb $driver $volmgr
ntdll=$(compile user/ntdll.c user/ntdll.S)
image ntdll.dll ntdll.pdb /dll /subsystem:native,10.0 /entry:RtlUserThreadStart /implib:obj/ntdll.lib $ntdll
program="/subsystem:console,10.0 /entry:thread_main obj/ntdll.lib"
service=$(compile user/service.c)
image service.exe service.pdb $program $service
php=$(compile user/php.c)
image php-cgi.exe php-cgi.pdb $program $php

elf="--target=x86_64-unknown-none-elf"
$clang $elf -ffreestanding -fno-pic -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fno-builtin -fshort-wchar -O1 \
  -Wall -Wextra -Werror -c boot/boot.c -o "$out/obj/boot.o"
$clang $elf -c boot/start.S -o "$out/obj/start.o"
$ld -T boot/boot.ld -z max-page-size=4096 -o "$out/obj/boot.elf" "$out/obj/start.o" "$out/obj/boot.o"
$objcopy -O binary "$out/obj/boot.elf" "$out/boot.bin"
