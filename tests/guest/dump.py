#!/usr/bin/env python3
"""Boots the guest that build.sh made and dumps it: OUTDIR/hang.elf, and OUTDIR/truth.json, which says what is in it.

Usage: dump.py OUTDIR [--kdbg encoded] [--format FORMAT] [--header] [--output NAME] [--memory MiB]
QEMU is $QEMU or qemu-system-x86_64. Emulation is single-threaded and counts instructions, so that the same images
give the same dump. The guest freezes itself: the last thing that it does is a write to the pvpanic device.
"""
import argparse
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
IMAGES = ["ntoskrnl.exe", "volmgr.sys", "Ntfs.sys", "ntdll.dll", "service.exe", "php-cgi.exe"]
PAGE = 4096
LOW = 0x100000  # below lie the firmware's memory and code, which are not ours


class Qmp:
    """QEMU's machine protocol: a line of JSON for each command and answer."""

    def __init__(self, path, process, deadline):
        while True:
            self.socket = socket.socket(socket.AF_UNIX)
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                self.socket.close()
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("QEMU did not start")
                time.sleep(0.02)
        self.socket.settimeout(60)
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self.command("qmp_capabilities")

    def command(self, name, **arguments):
        self.lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline() or '{"error": {"desc": "QEMU is gone"}}')
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]


def qemu_command(control, console, options):
    return [
        os.environ.get("QEMU", "qemu-system-x86_64"),
        *["-accel", "tcg,thread=single", "-icount", "shift=2,sleep=off", "-rtc", "base=2026-01-01,clock=vm"],
        *["-machine", "pc", "-cpu", "qemu64", "-smp", "2", "-m", str(options.memory)],
        *["-display", "none", "-vga", "none", "-nodefaults", "-no-user-config", "-no-reboot"],
        *["-device", "pvpanic", "-action", "panic=pause"],
        *["-debugcon", f"file:{console}", "-qmp", f"unix:{control},server=on,wait=off"],
        *(["-device", "vmcoreinfo"] if options.header else []),
        *["-kernel", "boot.bin", "-append", f"kdbg={options.kdbg}"],
        *["-initrd", ",".join(IMAGES)],
    ]


def wait_for(condition, process, deadline):
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError("the guest did not reach the end of its play")
        time.sleep(0.05)


def read_truth(console):
    """The console's lines "TRUTH {...}" by kind, beside the story that does not depend on addresses."""
    truth = json.loads((HERE / "story.json").read_text())
    pages = None
    for line in console.splitlines():
        word, _, rest = line.partition(" ")
        if word == "TRUTH":
            fact = json.loads(rest)
            truth.setdefault({"process": "processes"}.get(fact["kind"], fact["kind"] + "s"), []).append(fact)
            del fact["kind"]
        elif word == "MEMORY":
            pages = int(rest)
        else:
            raise RuntimeError(f"the guest says: {line}")
    if pages is None:
        raise RuntimeError("the guest says nothing")
    return truth, pages


def play(out, folder, options):
    """Runs the guest until it freezes, and dumps it."""
    control, console, deadline = folder / "qmp", folder / "console", time.monotonic() + 50
    with open(folder / "errors", "w+") as errors:
        process = subprocess.Popen(
            qemu_command(control, console, options),
            cwd=out,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
        try:
            # Nobody talks to QEMU while the guest runs: a command would end a processor's time slice early.
            wait_for(lambda: console.exists() and "\nMEMORY " in console.read_text(), process, deadline)
            qmp = Qmp(control, process, deadline)
            wait_for(lambda: qmp.command("query-status")["status"] == "guest-panicked", process, deadline)
            truth, pages = read_truth(console.read_text())
            target = out / options.output
            target.unlink(missing_ok=True)
            arguments = {"paging": False, "protocol": f"file:{target}"}
            if options.format == "elf":  # only this format can leave memory out
                arguments.update(begin=LOW, length=pages * PAGE - LOW)
            else:
                arguments["format"] = options.format
            qmp.command("dump-guest-memory", **arguments)
            return truth
        except Exception as error:
            errors.seek(0)
            said = console.read_text().splitlines() if console.exists() else []
            said = [f"guest: {line}" for line in said if not line.startswith("TRUTH ")]
            sys.exit("\n".join([f"dump.py: {error}", errors.read(), *said[-20:]]))
        finally:
            process.kill()
            process.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--kdbg", choices=["plain", "encoded"], default="plain")
    parser.add_argument("--format", default="elf", help="of dump-guest-memory: elf, kdump-zlib, win-dmp ...")
    parser.add_argument("--header", action="store_true", help="let the guest hand a Windows dump header to QEMU")
    parser.add_argument("--output", default="hang.elf", help="name of the dump in OUTDIR")
    parser.add_argument("--memory", type=int, default=32, help="of the machine, in MiB")
    options = parser.parse_args()
    options.header |= options.format == "win-dmp"
    out = options.out.resolve()
    with tempfile.TemporaryDirectory(prefix="guest-") as folder:
        truth = play(out, pathlib.Path(folder), options)
    (out / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


main()
