"""Which mutants there are, and which of them a seed draws."""

from __future__ import annotations

import ast
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("models", "scoring", "training", "decision", "evaluation")
_ARITHMETIC = {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"}
_BITS = {"BitAnd", "BitOr", "BitXor"}
_ORDER = {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"}
_IDENTITY = {"Is", "IsNot"}
_PRODUCTS = {"Mul", "MatMult"}
_NEEDS_A_NAME = ("VariableReplacer", "VariableInserter")


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
    for (family, (line, _)), choices in sorted(places.items(), key=lambda kv: kv[0][::-1]):
        text = f"{relative}|{family}|{lines[line - 1].strip()}"
        seen[text] += 1
        name = f"{text}|{seen[text]}"
        operator, occurrence = choices[int(hashed(seed, "which", name), 16) % len(choices)]
        yield Mutant(relative, line, operator, occurrence, name)


def hashed(*parts: object) -> str:
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
    try:
        after = mutate_code(before, get_operator(mutant.operator)(), mutant.occurrence)
    except AttributeError:  # cosmic-ray cannot replace an exception with a dotted name
        return None
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
    for mutant in sorted(everything, key=lambda m: hashed(seed, "order", m.name)):
        if size and (both := changed(mutant)):
            size -= 1
            yield mutant, *both
