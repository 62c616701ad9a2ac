"""Examples in docstrings give what stands below them."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import twinvae

ROOT = Path(twinvae.__file__).parent
WITH_EXAMPLES = [path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text()]


def test_there_are_some() -> None:
    assert len(WITH_EXAMPLES) >= 4


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_examples_of_a_module(path: Path) -> None:
    words = path.relative_to(ROOT.parent).with_suffix("").parts
    found = doctest.testmod(import_module(".".join(words).removesuffix(".__init__")))
    assert found.attempted
    assert not found.failed
