#!/usr/bin/env python3
"""Judges the analyser on the guest's dump: everything that the guest says of itself must be found.

Usage: check.py UNHANG OUTDIR [--dump FILE] [--truth FILE]
OUTDIR is what build.sh and dump.py filled. The tool runs twice: with the guest's symbols, and with none, where names
of functions may be missing but nothing else. Prints each difference; exit status 1 if there is one.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

DRIVE, DEVICE = "C:", "\\Device\\HarddiskVolume2"


class Judge:
    def __init__(self, label):
        self.label, self.compared, self.bad = label, 0, 0

    def equal(self, what, wanted, found):
        self.compared += 1
        if wanted != found:
            self.bad += 1
            print(f"{self.label}: {what}: wanted {wanted!r}, found {found!r}")

    def members(self, what, wanted, found, names):
        for name in names:
            if name in wanted:
                self.equal(f"{what} {name}", wanted[name], (found or {}).get(name))


def run(unhang, dump, symbols):
    # A folder of its own for the cache: another run's symbols must not help.
    with tempfile.TemporaryDirectory() as home:
        command = [unhang, "analyze", "--no-cache", "--json", "-", str(dump)]
        if symbols:
            command[2:2] = ["--symbols", str(symbols)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=120,
            env={"HOME": home, "XDG_CACHE_HOME": home, "PATH": "/usr/bin:/bin"},
        )
    if done.returncode != 1:  # 1: a hang was found
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}\n{done.stderr}")
    return json.loads(done.stdout)


def by(items, *names):
    return {tuple(item.get(n) for n in names): item for item in items}


def check_target(judge, truth, report):
    judge.equal("build", truth["build"], report["target"]["build"])
    judge.equal("system time", truth["system_time"], report["target"]["system_time"])
    judge.equal("kernel base", truth["modules"][0]["base"], report["target"]["kernel_base"])
    judge.equal("kernel's PDB", "ntkrnlmp.pdb", report["target"]["pdb"]["name"])
    found = by(report["modules"], "file")
    for m in truth["modules"]:
        judge.members(f"module {m['name']}", m, found.get((m["name"],)), ["base", "size"])
    judge.equal("number of modules", len(truth["modules"]), len(report["modules"]))
    judge.equal("gaps", [], report["gaps"])


def check_processes(judge, truth, report):
    found = by(report["processes"], "pid")
    for p in truth["processes"]:
        judge.members(f"process {p['pid']}", p, found.get((p["pid"],)), ["address", "name", "parent_pid"])
    # The idle process may be shown or not.
    judge.equal("number of processes", len(truth["processes"]), len([p for p in report["processes"] if p["pid"]]))


def check_threads(judge, truth, report):
    found = by(report["threads"], "address")
    names = ["process", "pid", "tid", "state", "wait_reason", "waited_ms"]
    for t in truth["threads"]:
        what, is_ = f"thread {t['tid']}", found.get((t["address"],))
        judge.members(what, t, is_, names)
        if "object" in t and is_:
            judge.equal(f"{what} waits on", True, t["object"] in [w["object"] for w in is_["waits_on"]])
        if is_:
            judge.equal(f"{what} IRPs", [t["irp"]] if "irp" in t else [], is_["irps"])
            judge.equal(f"{what} stack's end", "complete", is_["stack_end"])
    real = [t for t in report["threads"] if not t["idle_thread"]]
    judge.equal("number of threads", len(truth["threads"]), len(real))


def check_cpus(judge, truth, report):
    found = by(report["cpus"], "number")
    for c in truth["cpus"]:
        judge.members(f"CPU {c['number']}", c, found.get((c["number"],)), ["mode", "thread"])
    judge.equal("number of CPUs", len(truth["cpus"]), len(report["cpus"]))


def check_locks(judge, truth, report):
    found, tids = by(report["locks"], "address"), {t["address"]: t for t in truth["threads"]}
    for lock in truth["locks"]:
        what, is_ = f"lock of {lock['protects']}", found.get((lock["address"],))
        judge.members(what, lock, is_, ["mode"])
        if not is_:
            continue
        judge.equal(f"{what} protects", [DRIVE + lock["protects"]], is_["protects"])
        judge.equal(f"{what} owners", [lock["owner"]], [o["thread"] for o in is_["owners"]])
        waiters = {w["thread"]: w["waited_ms"] for w in is_["waiters"]}
        wanted = {t["address"]: t["waited_ms"] for t in tids.values() if t.get("lock") == lock["protects"]}
        judge.equal(f"{what} waiters", wanted, waiters)
        edges = {e["from"]: e["to"] for e in report["wait_graph"]["edges"] if e["via"]["address"] == lock["address"]}
        judge.equal(f"{what} edges", {a: lock["owner"] for a in wanted}, edges)
    judge.equal("locks in use", len(truth["locks"]), len([k for k in report["locks"] if k["owners"] or k["waiters"]]))
    judge.equal("cycles", [], report["wait_graph"]["cycles"])


def check_requests(judge, truth, report):
    by_thread, threads = by(report["irps"], "thread"), {t["tid"]: t for t in truth["threads"]}
    for r in truth["requests"]:
        is_ = by_thread.get((threads[r["tid"]]["address"],))
        judge.members(f"request of thread {r['tid']}", r, is_, ["major", "driver", "file"])
    wanted = {t["irp"] for t in truth["threads"] if "irp" in t}
    judge.equal("IRPs", wanted, {i["address"] for i in report["irps"]})


def check_verdict(judge, truth, report):
    wanted, verdict = truth["verdict"], report["verdict"]
    judge.equal("verdict", wanted["class"], verdict["class"])
    if verdict["finding"] is None:
        return
    finding = report["findings"][verdict["finding"]]
    judge.members("culprit", wanted["culprit"], finding["culprit"], wanted["culprit"])
    judge.members("finding", wanted, finding, ["waiting_threads", "longest_ms"])
    judge.equal("chain", wanted["chain"], [link["name"] for link in finding["chain"]])
    judge.equal("findings", 1, len(report["findings"]))
    directory = truth["directory"]
    judge.members("directory", directory, finding.get("directory"), ["names", "index_buffers"])
    patterns = [p["pattern"] for p in (finding.get("directory") or {}).get("patterns", [])]
    judge.equal("pattern of names", [directory["pattern"]], patterns)


def function(frame):
    return (frame["symbol"] or "").split("+")[0]


def check_stacks(judge, truth, report, symbols):
    threads = {t["tid"]: t for t in truth["threads"]}
    found, running = by(report["threads"], "address"), by(report["cpus"], "thread")
    for tid, stack in truth["stacks"].items():
        if tid == "comment":
            continue
        address = threads[int(tid)]["address"]
        shown = [("thread", found.get((address,)))]
        if (address,) in running:
            shown.append(("CPU of thread", running[(address,)]))
        for place, is_ in shown:
            frames = (is_ or {}).get("stack", [])
            names, wanted = [function(f) for f in frames], stack["frames"]
            what = f"stack of {place} {tid}"
            if not symbols:
                # Without symbols the modules must be right, and no frame may be missing.
                names, wanted = [n.split("!")[0] for n in names], [n.split("!")[0] for n in wanted]
            judge.equal(what, wanted, names)
            if symbols:
                judge.equal(f"{what}: trust", {"exact"}, {f["trust"] for f in frames})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unhang")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--dump", type=pathlib.Path, help="instead of OUTDIR/hang.elf")
    parser.add_argument("--truth", type=pathlib.Path, help="instead of OUTDIR/truth.json")
    options = parser.parse_args()
    truth = json.loads((options.truth or options.out / "truth.json").read_text())
    bad = 0
    for symbols in (options.out, None):
        judge = Judge("with symbols" if symbols else "without symbols")
        report = run(options.unhang, options.dump or options.out / "hang.elf", symbols)
        for check in (check_target, check_processes, check_threads, check_cpus, check_locks, check_requests, check_verdict):
            check(judge, truth, report)
        check_stacks(judge, truth, report, bool(symbols))
        print(f"{judge.label}: {judge.compared} facts compared, {judge.bad} differ")
        bad += judge.bad
    sys.exit(1 if bad else 0)


main()
