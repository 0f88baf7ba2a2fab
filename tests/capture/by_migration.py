"""Part 3: NUMA nodes and DIMMs. A paused machine with marks all over its memory, as a kdump and as a migration stream,
plain and mapped-ram (QEMU 9.0 and later): both must hold the same physical memory. Memory is allocated when it is
touched: large machines cost nothing."""
import itertools
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile

from machine import Qmp, wait_for

MARK, MIB, GIB = 64 << 10, 1 << 20, 1 << 30
# Blocks of ROM are no RAM, and until a BIOS has run ROM is what is read below a megabyte.
ROMS = ((0xC0000, 0x100000), (4 * GIB - 16 * MIB, 4 * GIB))


def node(number, size):
    return [
        *["-object", f"memory-backend-ram,id=ram-node{number},size={size}G"],
        *["-numa", f"node,nodeid={number},cpus={number},memdev=ram-node{number}"],
    ]


def dimm(number, size):
    return [
        *["-object", f"memory-backend-ram,id=memdimm{number},size={size}M"],
        *["-device", f"pc-dimm,id=dimm{number},memdev=memdimm{number},slot={number}"],
    ]


MACHINES = {
    # name: machine, arguments, addresses of the marks. A pc of 4 GiB has 3 of them below 4 GiB, a q35 of 3 GiB two.
    "two nodes, pc": (
        "pc",
        ["-m", "4G", *node(0, 2), *node(1, 2)],
        (16 * MIB, 2 * GIB - MARK, 2 * GIB, 3 * GIB - MARK, 4 * GIB, 5 * GIB - MARK),
    ),
    "two nodes, q35": (
        "q35",
        ["-m", "3G", *node(0, 1), *node(1, 2)],
        (16 * MIB, GIB - MARK, GIB, 2 * GIB - MARK, 4 * GIB, 5 * GIB - MARK),
    ),
    "two DIMMs, pc": (
        "pc",
        ["-m", "1G,slots=4,maxmem=16G", *dimm(0, 512), *dimm(1, 256)],
        (16 * MIB, GIB - MARK, "dimm0", "dimm1"),
    ),
    "a DIMM, q35": (
        "q35",
        ["-m", "3G,slots=2,maxmem=8G", *dimm(0, 256)],
        (16 * MIB, 2 * GIB - MARK, 4 * GIB, 5 * GIB - MARK, "dimm0"),
    ),
}


def dimm_places(machine, arguments, folder):
    """Where QEMU puts the DIMMs: loaders are told before the machine is."""
    process, qmp = start(machine, arguments, [], folder)
    try:
        return {d["data"]["id"]: d["data"]["addr"] for d in qmp.command("query-memory-devices")}
    finally:
        process.kill()
        process.wait()


def start(machine, arguments, loaders, folder):
    socket = folder / "qmp"
    socket.unlink(missing_ok=True)
    process = subprocess.Popen(
        [
            os.environ.get("QEMU", "qemu-system-x86_64"),
            *["-S", "-accel", "tcg", "-machine", machine, "-cpu", "qemu64", "-smp", "2", "-display", "none", "-vga", "none"],
            *["-nodefaults", "-no-user-config", "-qmp", f"unix:{socket},server=on,wait=off", *arguments, *loaders],
        ],
        stdin=subprocess.DEVNULL,
    )
    wait_for("QEMU's socket", socket.exists)
    return process, Qmp(socket)


def take(qmp, folder, form):
    """Both files of the machine as it stands."""
    qmp.command("dump-guest-memory", paging=False, protocol=f"file:{folder / 'dump.kdump'}", format="kdump-zlib")
    target = folder / f"dump.{form}"
    if form == "mapped-ram":
        qmp.command("migrate-set-capabilities", capabilities=[{"capability": form, "state": True}])
        qmp.command("migrate", uri=f"file:{target}")
    else:
        qmp.command("migrate", uri=f"exec:cat > {target}")
    wait_for("the migration", lambda: qmp.command("query-migrate").get("status") in ("completed", "failed"), 60)
    return qmp.command("query-migrate")["status"]


def ranges(core):
    """The RAM that an ELF core holds: address, size, offset."""
    out = []
    with open(core, "rb") as file:
        header = file.read(64)
        phoff, = struct.unpack_from("<Q", header, 32)
        count, = struct.unpack_from("<H", header, 56)
        for i in range(count):
            file.seek(phoff + i * 56)
            kind, _, offset, _, address, size, _, _ = struct.unpack("<IIQQQQQQ", file.read(56))
            if kind != 1:
                continue
            begin = next((end for start, end in ROMS[1:] if start <= address < end), address)
            out.append((begin, size - (begin - address), offset + begin - address))
    return [r for r in out if r[1] > 0]


def pages(core):
    """Pages that are not zeros, by address; holes of the file are not read."""
    out, zeros = {}, bytes(4096)
    with open(core, "rb", buffering=0) as file:
        for address, size, offset in ranges(core):
            at = offset
            while at < offset + size:
                try:
                    at = max(at, os.lseek(file.fileno(), at, os.SEEK_DATA))
                    end = min(os.lseek(file.fileno(), at, os.SEEK_HOLE), offset + size)
                except OSError:
                    break
                for page in range((at - offset) // 4096, (end - offset + 4095) // 4096):
                    data = os.pread(file.fileno(), 4096, offset + page * 4096)
                    if data != zeros:
                        out[address + page * 4096] = data
                at = end
    return out


def offers(qmp, capability):
    return capability in [c["capability"] for c in qmp.command("query-migrate-capabilities")]


def compare(judge, name, form, machine, arguments, marks, folder):
    places = dimm_places(machine, arguments, folder) if any(isinstance(m, str) for m in marks) else {}
    marks = [places.get(m, m) for m in marks]
    loaders = []
    for number, address in enumerate(marks):
        blob = folder / f"mark{number}"
        blob.write_bytes(random.Random(number).randbytes(MARK))
        loaders += ["-device", f"loader,file={blob},addr={address:#x},force-raw=on"]
    process, qmp = start(machine, arguments, loaders, folder)
    try:
        if form == "mapped-ram" and not offers(qmp, form):
            print(f"{name}: this QEMU does not offer {form}")
            return
        judge.equal(f"{name}: {form}", "completed", take(qmp, folder, form))
    finally:
        process.kill()
        process.wait()
    for taken in ("kdump", form):
        done = judge.run("convert", folder / f"dump.{taken}", "-o", folder / f"{taken}.elf", "--to", "elf")
        judge.equal(f"{name}: {taken}: exit status", 0, done.returncode)
        if done.returncode != 0:
            print(done.stderr)
            return
    kdump, stream = (pages(folder / f"{taken}.elf") for taken in ("kdump", form))
    for number, address in enumerate(marks):
        whole = b"".join(stream.get(address + i, b"") for i in range(0, MARK, 4096))
        judge.holds(f"{name}: mark at {address:#x}", whole == random.Random(number).randbytes(MARK))
    either = [a for a in sorted(kdump.keys() | stream.keys()) if not any(s <= a < e for s, e in ROMS)]
    judge.equal(f"{name}: pages that differ", [], [hex(a) for a in either if kdump.get(a) != stream.get(a)][:8])
    covered = [[(a, s) for a, s, _ in ranges(folder / f"{taken}.elf")] for taken in ("kdump", form)]
    judge.equal(f"{name}: ranges", *covered)
    print(f"{name}, {form}: {len(stream)} pages that are not zeros, {sum(s for _, s in covered[1]) >> 20} MiB")


# QEMU looks at every page of a dump: the larger machines take up to half a minute where page faults are slow.
QUICK = ("two nodes, q35", "two DIMMs, pc")


def test(judge, names):
    for name, form in itertools.product(names, ("migration", "mapped-ram")):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="migration-", dir="/var/tmp"))
        try:
            compare(judge, name, form, *MACHINES[name], folder)
        finally:
            shutil.rmtree(folder)
