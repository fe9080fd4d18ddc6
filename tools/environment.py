"""Virtual environments for what the scripts of this folder compare lowrank with: outside the repository, kept for the next run."""

import os
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lowrank-peers"
# Packages that are compiled here are compiled for this machine. The last two are for libmf, whose package asks for no
# vector instructions by itself.
FLAGS = {"CFLAGS": "-O3 -march=native -fPIC -DUSEAVX", "CXXFLAGS": "-O3 -march=native -fPIC -DUSEAVX"}


def environment(name, packages, compiled=()):
    """Makes the environment if there is none, installs what is missing, and returns its interpreter and, by package, the
    version installed or the reason why there is none."""
    python = CACHE / name / "bin/python"
    if not python.exists():
        venv.create(CACHE / name, with_pip=True)
    state = {}
    for package in packages:
        state[package] = version(python, package)
        if state[package] is None:
            print(f"installing {package}", file=sys.stderr, flush=True)
            options = ["--no-binary", package] if package in compiled else []
            pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, package]
            # A peer must not take away another's version of numpy, so what is there already stays.
            there = [f"{p}=={v}" for p, v in state.items() if v and not v.startswith("skipped")]
            limits = CACHE / name / "constraints.txt"
            limits.write_text("\n".join(there))
            done = subprocess.run(
                [*pip, "--constraint", limits],
                env={**os.environ, **FLAGS},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=1200,
                check=False,
            )
            last = done.stdout.strip().splitlines()[-1:] or ["no reason given"]
            state[package] = version(python, package) or f"skipped: cannot be installed ({last[0].strip()})"
    return python, state


def version(python, package):
    """The installed version, or None."""
    code = f"from importlib.metadata import version; print(version({package!r}))"
    done = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False)
    return done.stdout.strip() or None
