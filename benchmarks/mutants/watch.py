"""What tests reach and how long they take; running those that reach a mutant, in a fork."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import coverage
import pytest
from places import Mutant

Plugin = Callable[[], object]
"""Makes, in the process that runs the tests, what pytest is to ask."""


class Watch:
    """Of the unchanged tests: which functions each one reaches, and how long it takes.

    What a fixture of more than one test reaches counts for all tests that use it; what is reached
    while test files are imported (context ``""``) counts for all.
    """

    def __init__(self, tree: Path, kept: Path) -> None:
        self.kept = kept
        self.cover = coverage.Coverage(
            data_file=None, config_file=False, include=[str(tree / "src" / "twinvae" / "*")]
        )
        self.took: dict[str, float] = defaultdict(float)
        self.uses: dict[str, list[str]] = {}
        self.shared: dict[str, float] = defaultdict(float)
        self.context = ""
        self.cover.start()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self.uses = {item.nodeid: list(getattr(item, "fixturenames", ())) for item in items}

    def _during(self, context: str) -> Iterator[None]:
        before, self.context = self.context, context
        self.cover.switch_context(context)
        yield
        self.context = before
        self.cover.switch_context(before)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        yield from self._during(item.nodeid)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[object]) -> Iterator[None]:
        shared, started = fixturedef.scope != "function", time.monotonic()
        yield from self._during(f"fixture {fixturedef.argname}" if shared else self.context)
        if shared:
            self.shared[fixturedef.argname] += time.monotonic() - started

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.took[report.nodeid] += report.duration

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.cover.stop()
        if exitstatus:
            return
        data = self.cover.get_data()
        reach = {
            file.split("/src/twinvae/")[1]: data.contexts_by_lineno(file)
            for file in data.measured_files()
        }
        # A test may be the first of its kind to run: it then waits for what others share with it.
        alone = {
            test: seconds + sum(self.shared[name] for name in self.uses.get(test, ()))
            for test, seconds in self.took.items()
        }
        found = {"alone": alone, "uses": self.uses, "reach": reach, "all": sum(self.took.values())}
        self.kept.write_text(json.dumps(found))


class Choose:
    """Runs the tests that reach the changed function, quick ones and those of its file first."""

    _FAVOUR = 0.2  # a test of the nearest file may take five times as long as another before it

    def __init__(self, nearest: str, wanted: dict[str, float], known: set[str]) -> None:
        """``wanted``: seconds of each test to run; one that is not ``known`` is run as well."""
        self.nearest, self.wanted, self.known = nearest, wanted, known

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def cost(item: pytest.Item) -> float:
            near = item.nodeid.startswith(self.nearest)
            return self.wanted.get(item.nodeid, 0.0) * (self._FAVOUR if near else 1.0)

        chosen = (i for i in items if i.nodeid in self.wanted or i.nodeid not in self.known)
        items[:] = sorted(chosen, key=cost)


def tests_for(mutant: Mutant, before: str, watched: dict[str, Any]) -> dict[str, float]:
    """Seconds of each test, run alone, that reaches the function with the mutant; of all, for other
    code.

    Reached in the tests' own process, that is: commands that tests start are not watched.
    """
    inside = [
        range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
        for node in ast.walk(ast.parse(before))
        if isinstance(node, ast.FunctionDef)
    ]
    lines = min((each for each in inside if mutant.line in each), key=len, default=range(0))
    reach = watched["reach"].get(mutant.path, {})
    contexts = {context for line in lines for context in reach.get(str(line), ())}
    if not lines or "" in contexts:
        return dict(watched["alone"])
    shared = {c.removeprefix("fixture ") for c in contexts if c.startswith("fixture ")}
    return {
        test: seconds
        for test, seconds in watched["alone"].items()
        if test in contexts or shared & set(watched["uses"][test])
    }


def run_tests(tree: Path, files: Sequence[str], plugin: Plugin, seconds: float) -> str:
    """``passed``, ``failed`` or ``slow``; in a fork, so that torch need not be loaded each time."""
    child = os.fork()
    if not child:
        _be_the_child(tree, files, plugin)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # what its tests may have left running
            nothing = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
            return "passed" if os.waitstatus_to_exitcode(status) in nothing else "failed"
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "slow"


def _be_the_child(tree: Path, files: Sequence[str], plugin: Plugin) -> None:
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
        # Plugins were imported before the fork: their own asserts need not be rewritten.
        known = ("-W", "ignore::pytest.PytestAssertRewriteWarning")
        options = ["-q", "-x", "-p", "no:cacheprovider", "--tb=line", *known]
        code = int(pytest.main([*options, *files], plugins=[plugin()]))
    except BaseException:
        traceback.print_exc()  # into tests.log: no other trace of it is left
    finally:
        sys.stderr.flush()
        os._exit(code)
