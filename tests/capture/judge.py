"""Runs the program, and counts what is as it should be."""
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys

from machine import STORY


class Judge:
    def __init__(self, unhang, out):
        self.unhang, self.out, self.good, self.bad = str(unhang), out, 0, 0

    def environment(self):
        return {**os.environ, "HOME": str(self.out), "XDG_CACHE_HOME": str(self.out / "cache")}

    def equal(self, what, wanted, found):
        if wanted == found:
            self.good += 1
        else:
            self.bad += 1
            print(f"WRONG {what}: wanted {wanted!r}, found {found!r}")

    def holds(self, what, truth, found=""):
        self.equal(f"{what} {found}".strip(), True, bool(truth))

    def start(self, *arguments):
        return subprocess.Popen(
            [self.unhang, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(),
            # A shell's background jobs ignore it, and so would the program.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def run(self, *arguments, prefix=(), largest_file=None):
        def limit():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

        return subprocess.run(
            [*prefix, self.unhang, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment(),
            timeout=90,
            preexec_fn=limit if largest_file else None,
        )

    def capture(self, what, *arguments):
        """A capture that must go well: its report."""
        done = self.run("capture", "--json", *arguments)
        self.equal(f"{what}: exit status", 0, done.returncode)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return {"dumps": [{}], "watch": {}}
        return json.loads(done.stdout)

    def refuses(self, what, status, words, *arguments, **options):
        """A run that must fail with one sentence, and leave nothing."""
        before = set(self.out.iterdir())
        done = self.run("capture", *arguments, **options)
        self.equal(f"{what}: exit status", status, done.returncode)
        self.holds(f"{what}: says {words!r}", words in done.stderr, done.stderr)
        self.equal(f"{what}: lines", 1, len(done.stderr.splitlines()))
        self.equal(f"{what}: leaves", set(), set(self.out.iterdir()) - before - {self.out / "cache"})

    def hang_in(self, path, frozen=True):
        """The dump holds the hang; in one of the frozen guest the culprit is the story's."""
        path, name = pathlib.Path(path), pathlib.Path(path).name
        done = self.run("analyze", "--json", "-", path)
        self.equal(f"{name}: exit status of analyze", 1, done.returncode)
        if done.returncode != 1:
            print(done.stderr, file=sys.stderr)
            return
        report = json.loads(done.stdout)
        wanted = STORY["verdict"]
        self.equal(f"{name}: verdict", wanted["class"], report["verdict"]["class"])
        self.equal(f"{name}: processors", 2, len(report["cpus"]))
        if frozen and report["verdict"]["finding"] is not None:
            culprit = report["findings"][report["verdict"]["finding"]]["culprit"]
            for member in ("process", "pid", "tid", "file"):
                self.equal(f"{name}: culprit's {member}", wanted["culprit"][member], culprit[member])
        print(f"{name}: {report['dump']['format']}: {report['verdict']['class']}")
