"""How many small deliberate faults the tests let through: mutants by cosmic-ray, tests near them.

    python benchmarks/mutants.py [--sample 200] [--seed 0] [--packages models scoring ...]

A full run takes days, so a seeded sample is drawn of all places that cosmic-ray can change. A place
counts once however many replacements the tool has for it; which one is tried is drawn too, among
those that could be a slip (another arithmetic sign, another comparison; no shift of a float). Not
counted, since nothing that a program does could tell: type annotations, docstrings and the text of
errors, and code that means the same to the parser.

Each mutant runs the tests of its own package, the nearest file first, until one fails. A mutant
that makes them run several times too long counts as caught. Results are kept in ``--out``: a run
that was cut off goes on, and a survivor is tried again once its package's tests have changed.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import hashlib
import json
import os
import shutil
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("models", "scoring", "training", "decision", "evaluation")
_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
_BITS = {"BitAnd", "BitOr", "BitXor"}
_ORDER = {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"}
_IDENTITY = {"Is", "IsNot"}
_PRODUCTS = {"Mul", "MatMult"}
_NEEDS_A_NAME = ("VariableReplacer", "VariableInserter")
_PATIENCE = 4.0  # times the duration of the unchanged tests
_AT_LEAST = 60.0  # seconds before a mutant counts as caught for its slowness


@dataclass(frozen=True)
class Mutant:
    """One change of one place."""

    path: str
    """Of the file, below src/twinvae."""
    line: int
    operator: str
    occurrence: int
    name: str
    """The same as long as the place reads the same, whatever happens elsewhere in the file."""

    @property
    def package(self) -> str:
        return self.path.split("/")[0]


def is_a_slip(operator: str) -> bool:
    """Whether one might write the one for the other."""
    kind, *pair = operator.split("/")[1].split("_")
    if kind == "ReplaceUnaryOperator" or not pair:
        return kind not in _NEEDS_A_NAME
    return any(set(pair) <= alike for alike in (_ARITHMETIC, _BITS, _ORDER, _IDENTITY, _PRODUCTS))


def mutants_of(path: Path, seed: int) -> Iterator[Mutant]:
    """One mutant of every place in the file; which of its replacements, the seed decides."""
    source = path.read_text(encoding="utf-8")
    lines, tree = source.splitlines(), get_ast(source)
    relative = path.relative_to(ROOT / "src" / "twinvae").as_posix()
    places: dict[tuple[str, tuple[int, int]], list[tuple[str, int]]] = defaultdict(list)
    nodes = list(ast_nodes(tree))
    for operator in filter(is_a_slip, operator_names()):
        change = get_operator(operator)()
        spots = [spot for node in nodes for spot in change.mutation_positions(node)]
        for occurrence, (start, _) in enumerate(spots):
            places[operator.split("_")[0], start].append((operator, occurrence))
    seen: Counter[str] = Counter()
    for (family, (line, column)), choices in sorted(places.items(), key=lambda kv: kv[0][::-1]):
        text = f"{relative}|{family}|{lines[line - 1].strip()}"
        seen[text] += 1
        name = f"{text}|{seen[text]}"
        operator, occurrence = choices[int(_hash(seed, "which", name), 16) % len(choices)]
        yield Mutant(relative, line, operator, occurrence, name)


def _hash(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class _Meaning(ast.NodeTransformer):
    """Leaves out what is not counted."""

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return ast.Raise(exc=node.exc.func if isinstance(node.exc, ast.Call) else node.exc)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.annotation = ast.Constant(None)
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)


def meaning(source: str) -> str:
    """What of a source could change what the program does."""
    return ast.dump(_Meaning().visit(ast.parse(source)))


def changed(mutant: Mutant) -> tuple[str, str] | None:
    """The file before and after; None for a mutant that is not counted."""
    before = (ROOT / "src" / "twinvae" / mutant.path).read_text(encoding="utf-8")
    after = mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence)
    try:
        return (before, after) if after and meaning(after) != meaning(before) else None
    except SyntaxError:
        return None


def sample(size: int, seed: int, packages: Sequence[str]) -> Iterator[tuple[Mutant, str, str]]:
    """``size`` mutants with their file before and after, in an order that the seed decides.

    A larger sample begins with a smaller one, and code changed elsewhere leaves it as it is.
    """
    files = [f for p in packages for f in sorted((ROOT / "src" / "twinvae" / p).rglob("*.py"))]
    everything = [mutant for file in files for mutant in mutants_of(file, seed)]
    print(f"{len(everything)} places in {len(files)} files; sample of {size}, seed {seed}")
    for mutant in sorted(everything, key=lambda m: _hash(seed, "order", m.name)):
        if size and (both := changed(mutant)):
            size -= 1
            yield mutant, *both


def nearest_first(mutant: Mutant) -> list[str]:
    """Test files of the mutant's package: of its file, then those that speak of it, then others."""
    stem = Path(mutant.path).stem

    def distance(file: Path) -> tuple[int, int, str]:
        text = file.read_text(encoding="utf-8")
        near = 0 if file.stem in (f"test_{stem}", f"test_{stem}s") else 1
        return near, 0 if f".{stem} import" in text else 1, file.name

    files = (ROOT / "tests" / mutant.package).glob("test_*.py")
    return [f"tests/{mutant.package}/{file.name}" for file in sorted(files, key=distance)]


class QuickFirst:
    """Orders tests by what they took when last they all passed, those of the nearest file first.

    Which tests are run is not changed, only how soon one of them fails.
    """

    _FAVOUR = 0.2  # a test of the nearest file may take five times as long as another before it

    def __init__(self, nearest: str, kept: Path) -> None:
        self.nearest, self.kept = nearest, kept
        self.took: dict[str, float] = defaultdict(float)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        known = json.loads(self.kept.read_text()) if self.kept.is_file() else {}

        def cost(item: pytest.Item) -> float:
            near = item.nodeid.startswith(self.nearest)
            return known.get(item.nodeid, 0.0) * (self._FAVOUR if near else 1.0)

        items.sort(key=cost)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] += report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus == 0:
            self.kept.write_text(json.dumps(self.took))


def run_tests(tree: Path, files: Sequence[str], seconds: float) -> str:
    """``passed``, ``failed`` or ``slow``; in a fork, so that torch need not be loaded each time."""
    child = os.fork()
    if not child:
        _be_the_child(tree, files)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what its tests may have left running
            return "passed" if status == 0 else "failed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "slow"


def _be_the_child(tree: Path, files: Sequence[str]) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        # A shell's background job ignores it, and what the tests start would too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(tree)
        sys.path[:0] = [str(tree / "src")]
        os.environ["PYTHONPATH"] = str(tree / "src")
        sink = os.open(tree / "tests.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        package = files[0].split("/")[1]
        order = QuickFirst(files[0], tree.parent / f"{tree.name}-{package}.json")
        options = ["-q", "-x", "-p", "no:cacheprovider", "--tb=line"]
        code = int(pytest.main([*options, *files], plugins=[order]))
    finally:
        os._exit(code)


def _digest(files: Iterator[Path]) -> str:
    return _hash(*((f.name, f.read_bytes()) for f in sorted(files)))[:16]


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
    if result is None or result.source != _hash(meaning(before))[:16]:
        return False
    return result.outcome != "passed" or result.tests == _tests_digest(mutant.package)


def try_all(size: int, seed: int, packages: Sequence[str], out: Path) -> list[Result]:
    """Every mutant of the sample, those whose result is known left out."""
    known, results, room = earlier(out), [], out.parent / f"{out.stem}-tree"
    limits: dict[str, float] = {}
    for number, (mutant, before, after) in enumerate(sample(size, seed, packages), 1):
        result = known.get(mutant.name)
        if not holds(result, mutant, before):
            if mutant.package not in limits:
                limits[mutant.package] = _prepare(room, mutant)
            result = _try(mutant, before, after, room, limits[mutant.package])
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


def _prepare(room: Path, mutant: Mutant) -> float:
    """A copy of the tree to change; seconds after which a mutant is slow."""
    shutil.rmtree(room, ignore_errors=True)
    for part in ("src", "tests", "configs", "benchmarks", "docs"):
        shutil.copytree(ROOT / part, room / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "Makefile"):
        shutil.copy2(ROOT / file, room / file)
    started = time.monotonic()
    if run_tests(room, nearest_first(mutant), 3600) != "passed":
        said = (room / "tests.log").read_text(encoding="utf-8", errors="replace")[-2000:]
        raise SystemExit(f"tests/{mutant.package}: expected to pass unchanged, found\n{said}")
    return max(_AT_LEAST, _PATIENCE * (time.monotonic() - started))


def _try(mutant: Mutant, before: str, after: str, room: Path, limit: float) -> Result:
    file = room / "src" / "twinvae" / mutant.path
    started = time.monotonic()
    file.write_text(after, encoding="utf-8")
    try:
        outcome = run_tests(room, nearest_first(mutant), limit)
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
        _hash(meaning(before))[:16],
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
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_WAIT_POLICY": "passive"}
    given.out.mkdir(parents=True, exist_ok=True)
    # Loaded once, before the forks; nothing of twinvae may be.
    import matplotlib
    import nibabel
    import pandas
    import scipy.stats
    import sklearn.linear_model
    import torch  # noqa: F401

    matplotlib.use("Agg")
    out = given.out / f"seed{given.seed}.jsonl"
    show(try_all(given.sample, given.seed, given.packages, out))


if __name__ == "__main__":
    main()
