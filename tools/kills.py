"""Kills commands of lowrank at instants of every phase, and looks at what is left."""

import os
import random
import re
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

# How often a phase may be waited for in vain before it counts as too short to be met.
PATIENCE = 40


class Lost(Exception):
    """Something that must not happen did."""


def tree(path):
    """Bytes by name of all files below a path; run.json tells what differs from run to run."""
    if path.is_file():
        return {"": path.read_bytes()}
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != "run.json")
    return {str(file.relative_to(path)): file.read_bytes() for file in files}


def identity(path):
    """Which file or folder has this name now, if any has."""
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return None


def own(path, process):
    """The names of what a process has under temporary names for a target, and whether they are there."""
    start = f".{path.name}.tmp-{process}-"
    return [entry for entry in os.listdir(path.parent) if entry.startswith(start)]


class Bench:
    """The program, and a folder for what it makes."""

    def __init__(self, program, folder, seed):
        self.program = program
        self.folder = Path(folder)
        self.random = random.Random(seed)

    def command(self, arguments):
        return [self.program, *arguments.split(), "--quiet"]

    def run(self, arguments):
        done = subprocess.run(self.command(arguments), cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            raise Lost(f"lowrank {arguments}: {done.returncode}: {done.stderr.strip()}")

    def start(self, arguments):
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(self.command(arguments), cwd=self.folder, **pipes)

    def prepare(self):
        """Texts and stores that the commands which are killed start from."""
        self.run("generate --users 500 --items 200 --ratings 12000 --seed 1 --out a.csv")
        self.run("generate --users 400 --items 250 --ratings 10000 --seed 2 --out b.csv")
        held_out = "--test-fraction 0.1 --validation-fraction 0.1"
        self.run(f"import a.csv --out packed {held_out}")
        self.run(f"import a.csv --out plain {held_out} --encoding plain --shard-size 16KiB")
        self.run("train packed --out packed.model --rank 8 --epochs 2")
        # Enough that a small budget has to put text and factors on disk.
        for name, seed in [("c", 3), ("d", 4)]:
            self.run(f"generate --users 20000 --items 8000 --ratings 450000 --seed {seed} --out {name}.csv")
        self.run("import c.csv --out wide")

    def smallest(self, arguments):
        """A command with the smallest budget that it says would do."""
        refused = subprocess.run(self.command(f"{arguments} --memory 1MiB"), cwd=self.folder, capture_output=True, text=True)
        found = re.search(r"--memory (\S+) would do", refused.stderr)
        if not found:
            raise Lost(f"lowrank {arguments} --memory 1MiB: {refused.returncode}: {refused.stderr.strip()}")
        return f"{arguments} --memory {found[1]}"


class Command:
    """Two command lines that write to one target, of which the one whose result is not there is killed.

    A phase is told by what is on disk: what has come into being under the temporary names of the process, and whether
    the target is another than at the start. So what a kill has met can be seen after it.
    """

    def __init__(self, bench, target, lines):
        self.bench = bench
        self.path = bench.folder / target
        self.lines = lines
        self.now = 1
        self.kills = Counter()
        self.waited = Counter()
        self.renewed = 0

    def phase(self, process, before):
        raise NotImplementedError

    def check(self):
        """What must hold after every kill."""

    def begin(self):
        """Makes both states, and measures how long each phase takes."""
        self.states, self.seconds, self.lasts = [], float("inf"), {}
        for line in self.lines:
            before, began = identity(self.path), time.monotonic()
            child, last, lasts = self.bench.start(line), began, Counter()
            while child.poll() is None:
                phase, now = self.phase(child.pid, before), time.monotonic()
                lasts[phase] += now - last
                last = now
            if child.returncode != 0:
                raise Lost(f"lowrank {line}: {child.returncode}: {child.stderr.read().decode().strip()}")
            # The shorter of two: the machine may have had other things to do.
            self.seconds = min(self.seconds, last - began)
            for phase, last in lasts.items():
                self.lasts[phase] = min(last, self.lasts.get(phase, last))
            self.states.append(tree(self.path))
        if self.states[0] == self.states[1]:
            raise Lost(f"{self.path.name}: two commands, one result")

    def wanted(self):
        """The phase that was met or waited for least; none, for an instant of the whole, every third time."""
        if self.bench.random.random() < 1 / 3:
            return None
        return min(self.PHASES, key=lambda phase: (self.kills[phase] + self.waited[phase], self.bench.random.random()))

    def kill(self, wanted):
        """Starts a command and kills it in a phase that is waited for, or at some instant; whether it was in time."""
        line = self.lines[1 - self.now]
        self.ready()
        before = identity(self.path)
        child = self.bench.start(line)
        if wanted is None:
            time.sleep(self.bench.random.random() * self.seconds)
        else:
            while self.phase(child.pid, before) != wanted and child.poll() is None:
                pass
            time.sleep(self.bench.random.random() * self.lasts.get(wanted, 0))
        child.kill()
        said = child.stderr.read().decode()
        status = child.wait()
        if status not in (0, -9):
            raise Lost(f"lowrank {line}: {status}: {said.strip()}")
        if wanted is not None:
            self.waited[wanted] += 1
        if status == 0:
            return False
        phase = self.phase(child.pid, before)
        self.kills[phase] += 1
        if phase == wanted:
            self.waited[wanted] -= 1
        return True

    def ready(self):
        """What is made sure of before a command is started."""

    def until(self, kills):
        """Goes on until there were so many kills, and one in each phase."""
        self.begin()
        while self.kills.total() < kills or self.unmet():
            self.round()
        self.settle()
        if any(self.kills[phase] == 0 for phase in self.PHASES):
            raise Lost(f"{self.path.name}: phases that were never met: {dict(self.kills)}")

    def unmet(self):
        phases = [phase for phase in self.PHASES if self.kills[phase] == 0]
        return any(self.waited[phase] < PATIENCE for phase in phases)

    def round(self):
        """One kill, and a look at what is left. Now and then the command is let finish."""
        if not self.kill(self.wanted()):
            self.now = 1 - self.now
            return
        found = tree(self.path)
        if found not in self.states:
            raise Lost(f"{self.path.name}: a mixture after kill {self.kills.total()} of lowrank {self.lines[1 - self.now]}")
        if found != self.states[self.now]:
            self.now, self.renewed = 1 - self.now, self.renewed + 1
        self.check()
        if self.kills.total() % 20 == 0:
            self.settle()

    def settle(self):
        """Lets a command finish: then its result is there, and nothing of the dead."""
        self.bench.run(self.lines[1 - self.now])
        self.now = 1 - self.now
        left = [entry.name for entry in self.bench.folder.iterdir() if entry.name.startswith(f".{self.path.name}.")]
        if tree(self.path) != self.states[self.now] or left:
            raise Lost(f"{self.path.name}: left behind: {left}")


class Importing(Command):
    """An import in place of a store."""

    PHASES = ["starting", "reading", "ids", "by user", "by item", "manifest", "clearing away"]

    def __init__(self, bench, options, names="ab", small=False):
        lines = [f"import {name}.csv --out s {options} --force" for name in names]
        if small:
            lines = [bench.smallest(line) for line in lines]
        shutil.rmtree(bench.folder / "s", ignore_errors=True)
        super().__init__(bench, "s", lines)

    def phase(self, process, before):
        # Whether the store is another comes first: what is under the temporary name is the old one from then on.
        replaced = identity(self.path) != before
        made = own(self.path, process)
        if replaced or not made:
            return "clearing away" if replaced else "starting"
        try:
            there = os.listdir(self.path.parent / made[0])
        except FileNotFoundError:
            return "clearing away"
        names = [("manifest", "manifest"), ("by_item", "by item"), ("by_user", "by user"), ("users.dict", "ids")]
        return next((phase for name, phase in names if name in there), "reading")

    def check(self):
        self.bench.run("verify s")


class Recommending(Command):
    """Everybody's recommendations in place of a file."""

    PHASES = ["starting", "writing", "written", "ending"]

    def __init__(self, bench, options, name):
        lines = [f"recommend packed.model packed --top {top} {options} --out {name} --force" for top in (60, 90)]
        super().__init__(bench, name, lines)

    def phase(self, process, before):
        if identity(self.path) != before:
            return "ending"
        made = own(self.path, process)
        if not made:
            return "starting"
        try:
            size = os.stat(self.path.parent / made[0]).st_size
        except FileNotFoundError:
            return "ending"
        full = len(self.states[1 - self.now][""]) if len(self.states) == 2 else None
        return "written" if size == full else "writing"


class Training(Command):
    """A training in place of a model, with a checkpoint after every epoch; the next goes on from there."""

    PHASES = ["starting", "first epoch", "later epochs", "checkpoint", "model", "clearing away"]

    def __init__(self, bench, store, options, tiles=False, small=False):
        self.store = bench.folder / store
        self.tiles = tiles
        self.resumed = 0
        train = f"train {store} {options} --checkpoint-every 1 --resume --out m --force"
        self.PHASES = self.PHASES + ["tiles"] * tiles
        shutil.rmtree(bench.folder / "m", ignore_errors=True)
        lines = [f"{train} --seed {seed}" for seed in (1, 2)]
        if small:
            lines = [bench.smallest(line) for line in lines]
        super().__init__(bench, "m", lines)
        self.checkpoint = bench.folder / "m.checkpoint"

    def ready(self):
        # Tiles are made by the first training that needs them.
        if self.tiles and self.bench.random.random() < 1 / 3:
            shutil.rmtree(self.store / "tiles", ignore_errors=True)
        self.resumed += self.checkpoint.exists()

    def phase(self, process, before):
        replaced = identity(self.path) != before
        made = own(self.path, process)
        if replaced or not made:
            return "clearing away" if replaced else "starting"
        try:
            if os.listdir(self.path.parent / made[0]):
                # Unless the model has changed places with the old one since the first look.
                return "model" if identity(self.path) == before else "clearing away"
        except FileNotFoundError:
            return "clearing away"
        if self.tiles and own(self.store / "tiles", process):
            return "tiles"
        if own(self.checkpoint, process):
            return "checkpoint"
        return "later epochs" if self.checkpoint.exists() else "first epoch"

    def round(self):
        finished = not self.kill(self.wanted())
        found = tree(self.path)
        if found not in self.states or (finished and found == self.states[self.now]):
            raise Lost(f"m: a model that no uninterrupted training gives, after kill {self.kills.total()}")
        self.bench.run("verify m")
        self.bench.run(f"verify {self.store.name}")
        if self.checkpoint.exists():
            self.bench.run("verify m.checkpoint")
        if found != self.states[self.now]:
            self.renewed += not finished
            if not finished:
                # The model is there. Another training of the same clears the checkpoint away, and comes to the same.
                self.bench.run(self.lines[1 - self.now])
            self.now = 1 - self.now
            self.expect_settled()

    def settle(self):
        super().settle()
        self.expect_settled()

    def expect_settled(self):
        left = [entry.name for entry in self.bench.folder.iterdir() if entry.name.startswith(".m.")]
        if tree(self.path) != self.states[self.now] or left or self.checkpoint.exists():
            raise Lost(f"m: left behind: {left}")


def commands(bench):
    """Every command that is killed, by what it is called in the figures."""
    return {
        "import": [
            Importing(bench, "--test-fraction 0.1"),
            Importing(bench, "--encoding plain --shard-size 16KiB --validation-fraction 0.1 --test-last 1"),
            # What is read is sorted on disk.
            Importing(bench, "--validation-fraction 0.1", "cd", small=True),
        ],
        "train": [
            Training(bench, "packed", "--solver sgd --rank 8 --epochs 8", tiles=True),
            Training(bench, "plain", "--solver gradient --momentum 0.5 --rank 8 --epochs 8 --early-stop 9"),
            # Both sides' factors lie on disk.
            Training(bench, "wide", "--solver als --rank 48 --epochs 2", small=True),
        ],
        "recommend": [
            Recommending(bench, "", "t.csv"),
            Recommending(bench, "--exclude none", "t.jsonl"),
        ],
    }
