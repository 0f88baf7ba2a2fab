"""Part 2: libvirtd and a domain of type qemu; every form that virsh writes."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from by_qmp import killed
from machine import story_arguments, wait_for

INSIDE = "UNHANG_CAPTURE_INSIDE"  # set in the run that has a mount namespace of its own
CONFIGURATION = """user="root"
group="root"
security_driver="none"
cgroup_controllers=[ ]
namespaces=[ ]
remember_owner=0
stdio_handler="file"
"""
FOLDERS = ["/etc/libvirt", "/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"]
NAME = "hanging"
SAVE_FORMS = ("raw", "gzip", "bzip2", "xz", "lzop", "zstd", "sparse")


def domain(images, console):
    arguments = [*story_arguments(images), "-device", "pvpanic", "-debugcon", f"file:{console}"]
    more = "\n".join(f"<qemu:arg value='{a}'/>" for a in arguments)
    return f"""<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>{NAME}</name><memory unit='MiB'>256</memory><vcpu>2</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type></os>
<features><acpi/><vmcoreinfo state='on'/></features>
<cpu mode='custom' match='exact' check='none'><model>qemu64</model></cpu>
<on_crash>preserve</on_crash>
<devices><controller type='usb' model='none'/><memballoon model='none'/></devices>
<qemu:commandline>{more}</qemu:commandline></domain>"""


class Daemon:
    def __init__(self, folder, uri):
        self.folder, self.uri = folder, uri
        self.log = open(folder / "libvirtd.log", "w+")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["libvirtd", "--pid-file", str(self.folder / "pid")],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            start_new_session=True,
        )

    def virsh(self, *arguments):
        done = subprocess.run(
            ["virsh", "-q", "-c", self.uri, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, (done.stdout + done.stderr).strip()

    def answers(self):
        return self.process.poll() is not None or self.virsh("version")[0] == 0

    def started(self):
        try:
            wait_for("libvirtd", self.answers, 20)
        except RuntimeError:
            return False
        return self.process.poll() is None

    def state(self):
        return self.virsh("domstate", NAME)[1]

    def reason(self):
        self.log.seek(0)
        return (self.log.read().strip().splitlines() or ["it says nothing"])[-1]

    def restart(self):
        """With what qemu.conf says now; the domain runs on."""
        self.stop()
        self.start()
        if not self.started():
            raise RuntimeError(f"libvirtd does not start again: {self.reason()}")
        wait_for("the domain", lambda: self.state() == "running")

    def close(self):
        self.virsh("destroy", NAME)
        self.virsh("undefine", NAME, "--managed-save")
        self.stop()

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def capture_all(judge, daemon):
    """The guest has frozen itself: libvirt calls that crashed."""
    where = [NAME, "--connect", daemon.uri]
    for form in ("auto", "kdump-zlib", "win-dmp"):
        target = judge.out / f"capture.{form}"
        report = judge.capture(f"capture {form}", *where, "-o", target, "--format", form)
        judge.equal(f"capture {form}: guest", NAME, report.get("guest"))
        judge.equal(f"capture {form}: ran", False, report["dumps"][0].get("ran_before"))
        judge.holds(f"capture {form}: afterwards", daemon.state() != "running", daemon.state())
        judge.hang_in(target)
    if os.geteuid() == 0:  # room for a compressed dump only; libvirt does not tell which it has
        disk = judge.out / "disk"
        disk.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m", "none", disk], check=True)
        taken = judge.capture("small disk", *where, "-o", disk / "dump")["dumps"][0]
        judge.holds("small disk: compressed", str(taken.get("format")).startswith("kdump-"), taken)
        judge.hang_in(disk / "dump")
        subprocess.run(["umount", disk], check=True)
        disk.rmdir()
    judge.refuses("a stream of what stands", 2, "only once", *where, "-o", judge.out / "never", "--format", "migration")
    judge.refuses("no such domain", 2, "no such domain", "nobody", *where[1:], "-o", judge.out / "never")


def must(judge, daemon, *arguments):
    status, said = daemon.virsh(*arguments)
    judge.equal(f"virsh {arguments[0]}: {said}", 0, status)


def virsh_dump(judge, daemon, name, *arguments, frozen=True):
    target = judge.out / f"virsh.{name}"
    status, said = daemon.virsh("dump", NAME, target, *arguments)
    if "unsupported dumpformat" in said:
        print(f"virsh.{name}: this QEMU does not offer it")
        return
    judge.equal(f"virsh {name}: {said}", 0, status)
    if status == 0:
        judge.hang_in(target, frozen)


def virsh_frozen(judge, daemon):
    virsh_dump(judge, daemon, "elf", "--memory-only", "--live")
    virsh_dump(judge, daemon, "elf-not-live", "--memory-only")
    for form in ("kdump-zlib", "kdump-lzo", "kdump-snappy", "win-dmp"):
        virsh_dump(judge, daemon, form, "--memory-only", "--live", "--format", form)
    # The last: QEMU sends the stream of a guest that stands still only once ("paused due to previous migration").
    virsh_dump(judge, daemon, "dump")


def capture_running(judge, daemon):
    where = [NAME, "--connect", daemon.uri]
    for form in ("elf", "migration"):
        target = judge.out / f"resumed.{form}"
        taken = judge.capture(f"running {form}", *where, "-o", target, "--format", form)["dumps"][0]
        judge.equal(f"running {form}: ran", True, taken.get("ran_before"))
        judge.holds(f"running {form}: pause", 0 <= (taken.get("paused_ms") or -1) <= taken.get("took_ms", 0), taken)
        judge.equal(f"running {form}: afterwards", "running", daemon.state())
        judge.hang_in(target, frozen=False)
    for number in (signal.SIGTERM, signal.SIGKILL):
        killed(judge, lambda: "running" if daemon.state() == "running" else "not", number, *where, "--format", "elf")
    for delay in (0, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1):  # about when libvirt opens the pipe: it hung there, with the guest's lock
        process = judge.start("capture", *where, "-o", judge.out / "never", "--format", "elf")
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        process.wait(60)
        judge.equal(f"interrupted after {delay} s: afterwards", "running", daemon.state())
        judge.holds(f"interrupted after {delay} s: no file", not (judge.out / "never").exists(), delay)
        judge.holds(f"interrupted after {delay} s: none elsewhere", not os.path.exists("/dump"), delay)


def virsh_running(judge, daemon):
    virsh_dump(judge, daemon, "running-dump", frozen=False)
    virsh_dump(judge, daemon, "running-dump-live", "--live", frozen=False)
    virsh_saves(judge, daemon)
    managed = judge.out / "virsh.managedsave"
    must(judge, daemon, "managedsave", NAME)
    system = os.geteuid() == 0
    folder = pathlib.Path("/var/lib/libvirt/qemu/save") if system else config_home() / "libvirt/qemu/save"
    shutil.copy(folder / f"{NAME}.save", managed)
    judge.hang_in(managed, frozen=False)
    judge.refuses("a guest that is off", 2, "shut off", NAME, "--connect", daemon.uri, "-o", judge.out / "never")


def virsh_saves(judge, daemon):
    """Each form of a save file. It is chosen in qemu.conf, and since 11.3, which also brings "sparse", by an option."""
    option = "--image-format" in daemon.virsh("help", "save")[1]
    for form in SAVE_FORMS:
        target = judge.out / f"virsh.save.{form}"
        if not option:
            configure(f'save_image_format="{form}"\n')
            daemon.restart()
        status, said = daemon.virsh("save", NAME, target, *(["--image-format", form] if option else []))
        if "Invalid save image format" in said or "isn't available" in said:
            print(f"{target.name}: this libvirt does not offer it: {said}")
            continue
        judge.equal(f"virsh save {form}: {said}", 0, status)
        if status == 0:
            judge.hang_in(target, frozen=False)
            must(judge, daemon, "restore", target)
    configure()
    daemon.restart()


def config_home():
    return pathlib.Path(os.environ.get("XDG_CONFIG_HOME", os.path.expanduser("~/.config")))


def set_up(folder):
    """A libvirtd that shares nothing with the machine's: returns its URI."""
    if os.geteuid() == 0:
        for name in FOLDERS:
            os.makedirs(name, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "none", name], check=True)
        configure()
        # The driver looks its default user up before it reads its configuration; Debian's libvirt-daemon-system,
        # which starts daemons, would make it.
        known_as(folder, "/etc/passwd", "libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin")
        known_as(folder, "/etc/group", "libvirt-qemu:x:64055:")
        return "qemu:///system"
    os.environ["LIBVIRT_AUTOSTART"] = "0"  # virsh would start another one
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"):
        os.environ[variable] = str(folder / variable)
        (folder / variable).mkdir(mode=0o700)
    (config_home() / "libvirt").mkdir()
    configure()
    return "qemu:///session"


def configure(more=""):
    if os.geteuid() == 0:
        pathlib.Path("/etc/libvirt/qemu.conf").write_text(CONFIGURATION + more)
    else:
        (config_home() / "libvirt/qemu.conf").write_text('stdio_handler="file"\nsecurity_driver="none"\n' + more)


def known_as(folder, path, entry):
    """Adds a line to what this mount namespace sees of a file."""
    text = pathlib.Path(path).read_text()
    if text.startswith(entry.split(":")[0] + ":") or "\n" + entry.split(":")[0] + ":" in text:
        return
    mine = folder / pathlib.Path(path).name
    mine.write_text(text.rstrip("\n") + "\n" + entry + "\n")
    mine.chmod(0o644)
    subprocess.run(["mount", "--bind", mine, path], check=True)


def test_inside(judge, images):
    folder = judge.out / "libvirt"
    folder.mkdir()
    daemon = Daemon(folder, set_up(folder))
    try:
        if not daemon.started():
            print(f"SKIPPED: capture from libvirt: libvirtd does not start: {daemon.reason()}")
            return 77
        console, xml = folder / "console", folder / "domain.xml"
        xml.write_text(domain(images, console))
        status, said = daemon.virsh("define", xml)
        if status == 0:
            status, said = daemon.virsh("start", NAME)
        if status != 0:
            print(f"SKIPPED: capture from libvirt: the domain does not start: {said}")
            return 77
        wait_for("the guest's end", lambda: daemon.state() in ("crashed", "paused"))
        time.sleep(0.2)
        capture_all(judge, daemon)
        virsh_frozen(judge, daemon)
        must(judge, daemon, "resume", NAME)
        capture_running(judge, daemon)
        virsh_running(judge, daemon)
    finally:
        daemon.close()
    print(f"by libvirt: {judge.good} checks are right, {judge.bad} wrong")
    return 1 if judge.bad else 0


def test(judge, images, program):
    os.environ["PATH"] += ":/usr/sbin"  # where libvirtd is, and users do not look
    missing = [p for p in ("libvirtd", "virsh", "unshare") if shutil.which(p) is None]
    if missing:
        print(f"SKIPPED: capture from libvirt: {', '.join(missing)} not installed")
        return 77
    if os.geteuid() != 0 or INSIDE in os.environ:
        judge.good = judge.bad = 0
        return test_inside(judge, images)
    apart = ["unshare", "--mount", "--propagation", "private"]
    done = subprocess.run([*apart, "true"], capture_output=True, text=True)
    if done.returncode != 0:
        print(f"SKIPPED: capture from libvirt: no mount namespace: {done.stderr.strip()}")
        return 77
    command = [*apart, sys.executable, program, judge.unhang, str(judge.out), "libvirt"]
    sys.stdout.flush()
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}).returncode
