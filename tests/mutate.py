"""Breaks the code on purpose, one place at a time, and asks whether the tests notice.

    python tests/mutate.py                  every list (about an hour)
    python tests/mutate.py gradient         those whose name holds the word
    python tests/mutate.py tests/ops        the list of a folder of tests, or those a file of tests must notice
    python tests/mutate.py --jobs 2         two at a time

Each mutation is made in a copy of the package, or of csrc, from which that copy's library is then built; the working tree
is never touched. Exit status 1 if one is not caught, or if what it replaces is not there exactly once.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutation import ROOT, Mutation, mutations
from native_build import build

# The finder of an editable install may come before sys.path, so it is taken out before anything is imported.
_BOOTSTRAP = """
import sys
copy, selection = sys.argv[1:]
sys.meta_path = [finder for finder in sys.meta_path if "ScikitBuild" not in type(finder).__name__]
sys.path[:0] = [f"{copy}/src", f"{copy}/reproduction"]
import reformer, reproduction
for package in (reformer, reproduction):
    assert package.__file__.startswith(copy), f"{package.__file__} is not the mutated copy"
import pytest
# The setting of pyproject.toml would put the working tree's folder first.
place = f"pythonpath={copy}/reproduction"
sys.exit(pytest.main(["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-o", place, selection]))
"""
_LIMIT = 600  # seconds for one mutation's tests


def run(mutation: Mutation) -> tuple[int, str]:
    """(pytest's exit status, its output) of the mutation's tests over a copy of the code that has the mutation."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("src/reformer", "reproduction", mutation.path.parent):
            if (ROOT / part).is_dir() and not (copy / part).exists():
                shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / mutation.path
        try:
            path.write_text(mutation.apply(path.read_text()))
        except ValueError as error:
            return -1, str(error)
        if mutation.path.suffix != ".py":
            # The package looks for its library beside itself first.
            build(path.parent, copy / "src" / _library_folder() / "libreformer_native.so", lanes=8)
        command = [sys.executable, "-c", _BOOTSTRAP, folder, mutation.tests]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT)
        except subprocess.TimeoutExpired:
            return -1, f"the tests ran for more than {_LIMIT} s"
        return done.returncode, done.stdout + done.stderr


def report(mutation: Mutation) -> bool:
    """Run one mutation, print its line; True if the tests noticed it."""
    start = time.monotonic()
    status, output = run(mutation)
    # 1: tests failed. Anything else (2: collection error, 4: no such test) proves nothing.
    caught = status == 1
    failed = next((line.split()[1] for line in output.splitlines() if line.startswith("FAILED")), "")
    detail = failed or (output.strip().splitlines() or [""])[-1]
    seconds = time.monotonic() - start
    print(f"{'caught    ' if caught else 'NOT CAUGHT'} {seconds:5.1f} s  {mutation.name}  ->  {detail}", flush=True)
    return caught


def main(arguments: list[str]) -> int:
    """Run the chosen mutations; return 1 if one went unnoticed."""
    parser = argparse.ArgumentParser(description="Break the code on purpose; do the tests notice?")
    parser.add_argument("words", nargs="*", help="words of a mutation's name, folders or files of tests; none: all")
    parser.add_argument("--jobs", type=int, default=1, help="mutations at a time")
    options = parser.parse_args(arguments)
    chosen = [
        each
        for each in mutations()
        if not options.words or any(word in each.name or each.tests.startswith(word) for word in options.words)
    ]
    if not chosen:
        parser.error(f"no mutation has a name or tests of {options.words}")
    with ThreadPoolExecutor(options.jobs) as pool:
        caught = sum(pool.map(report, chosen))
    print(f"{caught} of {len(chosen)} mutations caught")
    return int(caught < len(chosen))


def _library_folder() -> str:
    # Where the package keeps its library is said once, where it is installed.
    found = re.search(r"LIBRARY DESTINATION (\S+)", (ROOT / "CMakeLists.txt").read_text())
    assert found is not None
    return found[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
