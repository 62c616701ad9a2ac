"""How many small deliberate faults the tests let through: mutants by cosmic-ray, tests near them.

    python benchmarks/mutants [--sample 200] [--seed 0] [--packages models scoring ...]

A full run takes days, so a seeded sample is drawn of all places that cosmic-ray can change. A place
counts once however many replacements the tool has for it; which one is tried is drawn too, among
those that could be a slip (another arithmetic sign, another comparison; no shift of a float). Not
counted, since nothing that a program does could tell: type annotations, docstrings and the text of
errors, and code that means the same to the parser.

Each mutant runs those tests of its own package that reach the function it is in (all of them, for
code outside functions), until one fails; quick ones and those of the nearest file come first. A
mutant that makes them run several times too long counts as caught. Results are kept in ``--out``:
a run that was cut off goes on, and a survivor is tried again once its package's tests have changed.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import json
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from places import PACKAGES, ROOT, Mutant, hashed, meaning, sample
from watch import Choose, Watch, run_tests, tests_for

# Loaded once, before the forks; nothing of twinvae may be.
_HEAVY = (
    *("torch", "pandas", "scipy.stats", "scipy.ndimage", "sklearn.linear_model", "nibabel"),
    *("sklearn.covariance", "sklearn.metrics", "matplotlib.pyplot", "SimpleITK", "pydantic"),
    *("nilearn.image", "pydicom", "jinja2", "typer", "rich.progress", "safetensors.torch"),
    *("hypothesis", "yaml"),
)
_PATIENCE = 4.0  # times the duration of the unchanged tests
_AT_LEAST = 180.0  # seconds before a mutant counts as caught for its slowness


def nearest_first(mutant: Mutant) -> list[str]:
    """Test files of the mutant's package: of its file, then those that speak of it, then others."""
    stem = Path(mutant.path).stem

    def distance(file: Path) -> tuple[int, int, str]:
        text = file.read_text(encoding="utf-8")
        near = 0 if file.stem in (f"test_{stem}", f"test_{stem}s") else 1
        return near, 0 if f".{stem} import" in text else 1, file.name

    files = (ROOT / "tests" / mutant.package).glob("test_*.py")
    return [f"tests/{mutant.package}/{file.name}" for file in sorted(files, key=distance)]


def _digest(files: Iterator[Path]) -> str:
    return hashed(*((f.name, f.read_bytes()) for f in sorted(files)))[:16]


def _tests_digest(package: str) -> str:
    return _digest((ROOT / "tests" / package).glob("*.py"))


@dataclass(frozen=True)
class Result:
    """What came of one mutant."""

    name: str
    path: str
    line: int
    outcome: str
    seconds: float
    source: str
    """Digest of the file's meaning; another one makes the result void."""
    tests: str
    """Digest of the package's tests; another one makes a survivor's result void."""
    diff: str


def earlier(out: Path) -> dict[str, Result]:
    """Results by mutant, the last of each."""
    if not out.is_file():
        return {}
    lines = out.read_text(encoding="utf-8").splitlines()
    return {each.name: each for each in (Result(**json.loads(line)) for line in lines)}


def holds(result: Result | None, mutant: Mutant, before: str) -> bool:
    """Whether the mutant need not be tried again."""
    if result is None or result.source != hashed(meaning(before))[:16]:
        return False
    return result.outcome != "passed" or result.tests == _tests_digest(mutant.package)


def try_all(size: int, seed: int, packages: Sequence[str], out: Path) -> list[Result]:
    """Every mutant of the sample, those whose result is known left out."""
    known, results, room = earlier(out), [], out.parent / f"{out.stem}-tree"
    watched: dict[str, dict[str, Any]] = {}
    chosen = sorted(sample(size, seed, packages), key=lambda each: each[0].package)
    for number, (mutant, before, after) in enumerate(chosen, 1):
        result = known.get(mutant.name)
        if not holds(result, mutant, before):
            if mutant.package not in watched:
                watched[mutant.package] = _prepare(room, mutant)
            result = _try(mutant, before, after, room, watched[mutant.package])
            with out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(result)) + "\n")
        results.append(result)
        lived = sum(each.outcome == "passed" for each in results)
        print(
            f"{number:4}/{size}  {lived:3} survived  {result.seconds:5.0f} s  "
            f"{result.outcome:6}  {mutant.path}:{mutant.line}  {mutant.operator[5:]}",
            flush=True,
        )
    shutil.rmtree(room, ignore_errors=True)
    return results


def _prepare(room: Path, mutant: Mutant) -> dict[str, Any]:
    """A copy of the tree to change, and what ``Watch`` says of the package's tests."""
    shutil.rmtree(room, ignore_errors=True)
    for part in ("src", "tests", "configs", "benchmarks", "docs"):
        shutil.copytree(ROOT / part, room / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile"):
        shutil.copy2(ROOT / file, room / file)
    sources = _digest((ROOT / "src" / "twinvae" / mutant.package).rglob("*.py"))
    kept = room.parent / f"{mutant.package}-{_tests_digest(mutant.package)}-{sources}.json"
    if not kept.is_file():
        found = run_tests(room, nearest_first(mutant), lambda: Watch(room, kept), 3600)
        if found != "passed":
            said = (room / "tests.log").read_text(encoding="utf-8", errors="replace")[-2000:]
            raise SystemExit(f"tests/{mutant.package}: expected to pass unchanged, found\n{said}")
    return dict(json.loads(kept.read_text()))


def _try(mutant: Mutant, before: str, after: str, room: Path, watched: dict[str, Any]) -> Result:
    file = room / "src" / "twinvae" / mutant.path
    wanted, started = tests_for(mutant, before, watched), time.monotonic()
    files = [f for f in nearest_first(mutant) if any(t.startswith(f"{f}::") for t in wanted)]

    def choose() -> Choose:
        return Choose(files[0], wanted, set(watched["alone"]))

    limit = max(_AT_LEAST, _PATIENCE * watched["all"])
    file.write_text(after, encoding="utf-8")
    try:
        # No test of the package comes by: nothing to run, and nothing that could fail.
        outcome = run_tests(room, files, choose, limit) if files else "passed"
    finally:
        file.write_text(before, encoding="utf-8")
    diff = difflib.unified_diff(
        before.splitlines(), after.splitlines(), mutant.path, mutant.path, n=1, lineterm=""
    )
    return Result(
        mutant.name,
        mutant.path,
        mutant.line,
        outcome,
        round(time.monotonic() - started, 1),
        hashed(meaning(before))[:16],
        _tests_digest(mutant.package),
        "\n".join(diff),
    )


def show(results: Sequence[Result]) -> None:
    """Survivors of each package with what was changed, then the counts."""
    for result in (each for each in results if each.outcome == "passed"):
        print(f"\nsurvived: {result.path}:{result.line}\n{result.diff}")
    print(f"\n{'package':12} mutants  survived  share")
    groups: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        groups[result.path.split("/")[0]].append(result)
    for package, each in [*sorted(groups.items()), ("all", list(results))]:
        lived = sum(result.outcome == "passed" for result in each)
        print(f"{package:12} {len(each):7}  {lived:8}  {lived / max(1, len(each)):.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--packages", nargs="+", choices=PACKAGES, default=PACKAGES)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "mutants")
    given = parser.parse_args()
    sys.dont_write_bytecode = True  # a cached module must not outlive its change
    os.environ |= {
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_WAIT_POLICY": "passive",
        "MPLBACKEND": "Agg",
    }
    given.out.mkdir(parents=True, exist_ok=True)
    for name in _HEAVY:
        importlib.import_module(name)
    out = given.out / f"seed{given.seed}.jsonl"
    show(try_all(given.sample, given.seed, given.packages, out))


if __name__ == "__main__":
    main()
