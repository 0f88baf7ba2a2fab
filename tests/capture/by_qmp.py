"""Part 1: a QEMU of our own and its control socket."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import pathlib

from machine import Machine, Qmp, wait_for

CONFIRM = bytes([3, 0, 0, 19, 14, 0xD0, 0, 0, 0x12, 0x34, 0, 2, 0, 8, 0, 2, 0, 0, 0])
REQUEST = bytes([3, 0, 0, 19, 14, 0xE0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 3, 0, 0, 0])


def handshake(kind, size):
    return bytes([kind]) + size.to_bytes(3, "big") + bytes(size)


def record(content):
    return bytes([22, 3, 3]) + len(content).to_bytes(2, "big") + content


# ServerHello, Certificate, ServerKeyExchange, ServerHelloDone: over records as servers do it.
TLS = handshake(2, 70) + handshake(11, 900) + handshake(12, 300) + handshake(14, 0)
TLS_RECORDS = record(TLS[:500]) + record(TLS[500:])


class RemoteDesktop(threading.Thread):
    """Answers connection requests and TLS; from the third client on one of both late: the number of the answer."""

    def __init__(self, late, which):
        super().__init__(daemon=True)
        self.late, self.which, self.asked, self.hello = late, which, [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.start()

    def run(self):
        while True:
            client, _ = self.listener.accept()
            self.asked.append(client.recv(100))
            try:
                for number, answer in enumerate((CONFIRM, TLS_RECORDS)):
                    time.sleep(self.late if len(self.asked) > 2 and number == self.which else 0.1)
                    client.sendall(answer[:9])
                    client.sendall(answer[9:])
                    if number == 0:
                        self.hello.append(client.recv(1000))
            except OSError:
                pass
            client.close()


def frozen(judge, machine):
    """The guest stands still, and is left so."""
    for form in ("elf", "kdump-zlib"):
        target = judge.out / f"frozen.{form}"
        report = judge.capture(form, "--qmp", machine.socket, "-o", target, "--format", form)
        taken = report["dumps"][0]
        judge.equal(f"{form}: guest", "hanging", report.get("guest"))
        judge.equal(f"{form}: memory", 256 << 20, report.get("memory"))
        judge.equal(f"{form}: format", form, taken.get("format"))
        judge.equal(f"{form}: ran", False, taken.get("ran_before"))
        judge.equal(f"{form}: mode", 0o600, target.stat().st_mode & 0o777)
        judge.equal(f"{form}: guest afterwards", "guest-panicked", machine.qmp.state())
        judge.hang_in(target)
    judge.holds("zeros are holes", (judge.out / "frozen.elf").stat().st_blocks * 512 < 64 << 20)
    done = judge.run("capture", "--qmp", machine.socket, "-o", judge.out / "frozen.analyze", "--analyze")
    judge.equal("--analyze: exit status", 1, done.returncode)
    judge.holds("--analyze: verdict", "VERDICT busy-owner" in done.stdout, done.stdout[:200])
    judge.holds("--analyze: report of the capture", "was left so" in done.stderr, done.stderr)


def mistakes(judge, machine):
    new, qmp = judge.out / "never", ["--qmp", machine.socket]
    judge.refuses("no socket", 2, "cannot connect", "--qmp", judge.out / "nothing", "-o", new)
    judge.refuses("a file", 2, "cannot connect", "--qmp", judge.out / "frozen.elf", "-o", new)
    judge.refuses("nobody named", 2, "either a libvirt domain or", "-o", new)
    judge.refuses("existing file", 2, "--overwrite", *qmp, "-o", judge.out / "frozen.elf")
    judge.refuses("no folder", 2, "No such file", *qmp, "-o", judge.out / "nowhere" / "never")
    judge.refuses("a device", 2, "plain file", *qmp, "-o", "/dev/null")
    judge.refuses("not offered", 2, "does not offer", *qmp, "-o", new, "--format", "migration")
    judge.refuses("a bad duration", 2, "no duration", *qmp, "-o", new, "--twice", "soon")
    judge.refuses("a bad probe", 2, "the probes are", *qmp, "-o", new, "--probe", "ping:x")
    for bad in ("rdp:x:y", "rdp:x:65536", "rdp:[::1]3389", "rdp:::1:3389"):
        judge.refuses("a bad port", 2, "rdp:HOST", *qmp, "-o", new, "--probe", bad)
    judge.refuses("an empty probe", 2, "may not be empty", *qmp, "-o", new, "--when-slow", "")
    judge.refuses("nothing to watch", 2, "what is to be watched", *qmp, "-o", new, "--over", "60s")
    judge.refuses("standard output", 2, "name a file", *qmp, "-o", "-")
    judge.refuses("twice of what stands", 2, "does not run", *qmp, "-o", new, "--twice", "1s")
    judge.refuses("no such command", 2, "cannot run the probe", *qmp, "-o", new, "--when-slow", "exec /no/thing")
    judge.refuses("another machine", 2, "another machine", "d", "--connect", "qemu+ssh://h/system", "-o", new)
    with tempfile.TemporaryDirectory() as folder:
        # Somebody else speaks with QEMU.
        taken = Qmp(machine.socket)
        judge.refuses("a busy socket", 2, "no greeting", *qmp, "-o", pathlib.Path(folder) / "never")
        taken.socket.close()
        taken.lines.close()


def small_disk(judge, machine):
    """A disk with room for 256 + 128 + 128 MiB takes an ELF file; with a quarter of it, a compressed one."""
    probe = ["unshare", "-rm", "true"]
    if subprocess.run(probe, capture_output=True).returncode != 0:
        print("SKIPPED: small disks: no mount namespace here")
        return
    disk = judge.out / "disk"
    disk.mkdir()
    for size, status, words in (("600m", 0, ": elf,"), ("400m", 0, ": kdump-zlib,"), ("150m", 2, "150.0 MiB free")):
        script = f'mount -t tmpfs -o size={size} none {disk} && "$@"; s=$?; ls {disk} >&2; exit $s'
        done = judge.run(
            *["capture", "--qmp", machine.socket, "-o", disk / "dump"], prefix=["unshare", "-rm", "sh", "-c", script, "x"]
        )
        judge.equal(f"disk of {size}: exit status", status, done.returncode)
        judge.holds(f"disk of {size}: {words}", words in done.stdout + done.stderr, done.stdout + done.stderr)
        judge.equal(f"disk of {size}: file", status == 0, done.stderr.endswith("dump\n"))
    disk.rmdir()


def running(judge, machine):
    """The guest runs, stands still for the dump, and runs again."""
    machine.qmp.command("cont")
    taken = judge.capture("running", "--qmp", machine.socket, "-o", judge.out / "running.elf")["dumps"][0]
    judge.equal("running: ran", True, taken.get("ran_before"))
    judge.holds("running: pause", 0 < (taken.get("paused_ms") or 0) <= taken.get("took_ms", 0), taken)
    judge.equal("running: guest afterwards", "running", machine.qmp.state())
    judge.hang_in(judge.out / "running.elf", frozen=False)
    begun = time.monotonic()
    twice = judge.capture("twice", "--qmp", machine.socket, "-o", judge.out / "twice.elf", "--twice", "1500ms")
    judge.holds("twice: pause between", time.monotonic() - begun > 1.5)
    judge.equal(
        "twice: files", [str(judge.out / n) for n in ("twice.elf", "twice.2.elf")], [d.get("output") for d in twice["dumps"]]
    )
    for name in ("twice.elf", "twice.2.elf"):
        judge.hang_in(judge.out / name, frozen=False)
    full = ["--qmp", machine.socket, "-o", judge.out / "never"]
    judge.refuses("disk full in the middle", 3, "cannot write the output", *full, largest_file=1 << 20)
    judge.equal("disk full: guest afterwards", "running", machine.qmp.state())


def killed(judge, state, number, *arguments):
    """Ended in the middle of a dump, when the guest stands still."""
    target = judge.out / "killed"
    for _ in range(20):
        process = judge.start("capture", *arguments, "-o", target)
        while process.poll() is None and state() == "running":
            pass
        if process.poll() is None:
            process.send_signal(signal.SIGSTOP)
            if not target.exists() and state() != "running":
                break
            process.send_signal(signal.SIGCONT)
        process.wait()
        target.unlink(missing_ok=True)
    else:
        judge.holds("a dump can be caught in its middle", False)
        return
    process.send_signal(number)
    process.send_signal(signal.SIGCONT)
    process.communicate()
    name = f"killed by {signal.Signals(number).name}"
    judge.equal(f"{name}: exit status", -number, process.returncode)
    judge.equal(f"{name}: leaves", [], [p.name for p in judge.out.iterdir() if p.name.startswith("killed")])
    try:
        wait_for("the guest's running", lambda: state() == "running", 10)
        judge.holds(name, True)
    except RuntimeError as error:
        judge.holds(f"{name}: {error}: {state()}", False)


def slow(judge, machine):
    """A probe that becomes slow; its process is gone afterwards."""
    delay, pid, target = judge.out / "delay", judge.out / "pid", judge.out / "slow.elf"
    delay.write_text("0.1")
    watch = ["--qmp", machine.socket, "--when-slow", f"echo $$ >{pid}; exec sleep $(cat {delay})", "--every", "200ms"]
    process = judge.start("capture", *watch, "--over", "1s", "-o", target, "--json")
    time.sleep(1)
    judge.equal("slow: no file before", False, target.exists())
    delay.write_text("100")
    out, err = process.communicate(timeout=30)
    judge.equal("slow: exit status", 0, process.returncode)
    judge.holds("slow: says what probes took", "probe 1: 0.1" in err and "capturing" in err, err)
    judge.holds("slow: the symptom lasted", '"lasted": true' in out, out)
    judge.equal("slow: its process", False, os.path.exists(f"/proc/{pid.read_text().strip()}"))
    judge.hang_in(target, frozen=False)
    delay.write_text("2")
    recovered = [*watch, "--over", "1s", "--twice", "1500ms", "-o", judge.out / "recovered.elf", "--json"]
    done = judge.run("capture", *recovered)
    judge.equal("recovered: exit status", 0, done.returncode)
    judge.holds("recovered: the symptom did not last", '"lasted": false' in done.stdout, done.stdout)
    delay.write_text("0")
    done = judge.run("capture", *watch, "--for", "1s", "-o", judge.out / "never")
    judge.equal("never slow: exit status", 0, done.returncode)
    judge.holds("never slow: says so", "never slow" in done.stdout, done.stdout)
    judge.equal("never slow: file", False, (judge.out / "never").exists())
    process = judge.start("capture", *watch, "-o", judge.out / "never")
    time.sleep(0.5)
    process.terminate()
    process.communicate()
    judge.equal("ended while it watches", -signal.SIGTERM, process.returncode)


def remote_desktop(judge, machine):
    watch = ["--qmp", machine.socket, "--over", "1s", "--every", "100ms"]
    for which, name in enumerate(("confirm", "tls")):
        server, target = RemoteDesktop(30, which), judge.out / f"rdp.{name}.elf"
        done = judge.run("capture", *watch, "--probe", f"rdp:127.0.0.1:{server.port}", "-o", target)
        judge.equal(f"rdp, {name}: exit status", 0, done.returncode)
        judge.equal(f"rdp, {name}: probes", [REQUEST] * 3, server.asked)
        judge.holds(f"rdp, {name}: hello", all(h[:2] == b"\x16\x03" for h in server.hello[:2]), server.hello)
        judge.holds(f"rdp, {name}: answers", done.stderr.count(", TLS answered") == 2, done.stderr)
        judge.holds(f"rdp, {name}: lasted", "shows the symptom" in done.stdout, done.stdout)
        judge.hang_in(target, frozen=False)
        server.listener.close()
    done = judge.run("capture", *watch, "--probe", "rdp:[127.0.0.1]:1", "--for", "300ms", "-o", judge.out / "never")
    judge.equal("rdp, nobody there: exit status", 2, done.returncode)
    judge.holds("rdp, nobody there", "no connection" in done.stderr and "failed each time" in done.stderr, done.stderr)


def test(judge, images):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="capture-"))
    machine = Machine(images, folder, 256)
    try:
        frozen(judge, machine)
        mistakes(judge, machine)
        small_disk(judge, machine)
        running(judge, machine)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGKILL):
            killed(judge, machine.qmp.state, number, "--qmp", machine.socket)
        slow(judge, machine)
        remote_desktop(judge, machine)
    finally:
        machine.close()
        shutil.rmtree(folder)
