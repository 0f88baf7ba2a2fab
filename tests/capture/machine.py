"""The test guest in a QEMU of our own, with two control sockets: one for the program, one for the test."""
import json
import os
import pathlib
import socket
import subprocess
import time

GUEST = pathlib.Path(__file__).resolve().parent.parent / "guest"
IMAGES = ["ntoskrnl.exe", "volmgr.sys", "Ntfs.sys", "ntdll.dll", "service.exe", "php-cgi.exe"]
STORY = json.loads((GUEST / "story.json").read_text())


def wait_for(what, condition, seconds=40):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"waited in vain: {what}")
        time.sleep(0.02)


class Qmp:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(60)
        self.lines = self.socket.makefile("rw")
        self.lines.readline()
        self.command("qmp_capabilities")

    def command(self, name, **arguments):
        self.lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
        self.lines.flush()
        while True:
            answer = json.loads(self.lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{name}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def state(self):
        return self.command("query-status")["status"]


def story_arguments(images):
    """What makes QEMU play the story: docs in tests/guest/dump.py."""
    return [
        *["-icount", "shift=2,sleep=off", "-rtc", "base=2026-01-01,clock=vm"],
        *["-action", "panic=pause", "-kernel", str(images / "boot.bin"), "-append", "kdbg=plain"],
        *["-initrd", ",".join(str(images / i) for i in IMAGES)],
    ]


class Machine:
    """Runs until the guest has frozen itself."""

    def __init__(self, images, folder, memory):
        self.socket, control, console = folder / "qmp", folder / "control", folder / "console"
        self.process = subprocess.Popen(
            [
                os.environ.get("QEMU", "qemu-system-x86_64"),
                *["-accel", "tcg,thread=single", "-machine", "pc", "-cpu", "qemu64", "-smp", "2", "-m", str(memory)],
                *["-display", "none", "-vga", "none", "-nodefaults", "-no-user-config", "-no-reboot"],
                *["-name", "hanging", "-device", "pvpanic", "-debugcon", f"file:{console}"],
                *["-qmp", f"unix:{self.socket},server=on,wait=off", "-qmp", f"unix:{control},server=on,wait=off"],
                *story_arguments(images),
            ],
            stdin=subprocess.DEVNULL,
        )
        wait_for("the guest's play", lambda: console.exists() and "\nMEMORY " in console.read_text())
        self.qmp = Qmp(control)
        wait_for("the guest's end", lambda: self.qmp.state() == "guest-panicked")

    def close(self):
        self.process.kill()
        self.process.wait()
