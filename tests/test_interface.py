"""``import twinvae``: quick, and everything it exports is there, typed as what it is."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

import twinvae
from twinvae.detection.options import Chosen, DetectOptions


def test_everything_exported_is_there_under_its_name() -> None:
    for name, module in twinvae._EXPORTS.items():
        one = getattr(twinvae, name)
        assert one.__name__ == name
        assert one.__doc__
        assert one.__module__.startswith(module)
        assert name in dir(twinvae)


def test_type_checkers_are_told_the_same_names() -> None:
    source = Path(twinvae.__file__).read_text()
    told = re.findall(r"^    from (\S+) import (\w+) as \2$", source, re.MULTILINE)
    assert {name: module for module, name in told} == twinvae._EXPORTS


def test_import_takes_nothing_with_it() -> None:
    code = "import sys, twinvae; print([m for m in sys.modules if m.startswith('twinvae.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_import_is_quick() -> None:
    """0.3 s of one core; CPU time, since tests share their cores with each other."""
    seconds = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        own = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
        subprocess.run([sys.executable, "-c", "import twinvae"], check=True, env=own)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(seconds) < 0.3


def test_what_is_not_exported_is_an_attribute_error() -> None:
    assert not hasattr(twinvae, "no_such_name")


@pytest.mark.parametrize("function", [twinvae.detect_scans, twinvae.detect_patients])
def test_what_may_be_chosen_is_typed_as_the_options_are(function) -> None:
    assert get_type_hints(Chosen) == get_type_hints(DetectOptions)
    assert Chosen.__required_keys__ == frozenset()
    assert function.__annotations__["options"] == "Unpack[Chosen]"
