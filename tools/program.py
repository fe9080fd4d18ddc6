"""What the scripts of this folder have in common: the program, the data, tables."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("LOWRANK_DATA", ROOT / "../shared/data"))
ML_100K = DATA / "ml-100k/orig"
ML_1M = DATA / "ml-1m/ratings.csv"
ML_1M_SPLIT = "--test-fraction 0.1 --seed 1"


class Lowrank:
    """The program, and a folder for what it makes."""

    def __init__(self, program, folder):
        self.program = program
        self.folder = Path(folder)

    def run(self, *arguments):
        """Runs a command and returns its result."""
        command = [self.program, *map(str, arguments), "--json", "--quiet"]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)

    def store(self, name, *arguments):
        """Imports ratings and returns the store and the counts."""
        store = self.folder / f"{name}.store"
        return store, self.run("import", *arguments, "--out", store)

    def ml_100k(self, *split):
        """The five published splits."""
        names = [f"u{n}" for n in range(1, 6)]
        return [self.store(n, ML_100K / f"{n}.base", "--test", ML_100K / f"{n}.test", *split)[0] for n in names]

    def ml_1m(self, *split):
        return self.store("1m", ML_1M, *ML_1M_SPLIT.split(), *split)

    def train(self, store, options):
        """Trains and returns the model and what the training tells of itself."""
        model = self.folder / "trained.model"
        return model, self.run("train", store, "--out", model, "--force", *options.split())

    def evaluate(self, model, store):
        """RMSE and MAE on the test part."""
        return self.run("evaluate", model, store, "--metrics", "rmse,mae")


def mean(values):
    return sum(values) / len(values)


def print_table(head, rows):
    """A table of words, then of numbers; rows are printed as they come."""
    print("| " + " | ".join(head) + " |")
    print("|---|" + "---:|" * (len(head) - 1), flush=True)
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def print_options(methods):
    print("Options of `lowrank train`:\n")
    for name, options in methods:
        print(f"* {name}: `{options}`")
    print()


def parser(description):
    """The options that every script takes."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    built = ROOT / "target/release/lowrank"
    parser.add_argument("--lowrank", metavar="PROGRAM", default=built, help="the program")
    return parser


def require(script, program, *files):
    """Ends the script if the program or a file of MovieLens is missing."""
    if not Path(program).exists():
        sys.exit(f"{script}: {program} is missing; build it with `cargo build --release`")
    for path in files:
        if not path.exists():
            sys.exit(f"{script}: {path} is missing; set LOWRANK_DATA to the folder of the MovieLens files")
