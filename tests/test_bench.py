"""What `make bench` writes is what its parts measured: aims, growth, kept parts, the page."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Any:
    """Imports a module of the benchmarks."""

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        patch.syspath_prepend(BENCHMARKS / "bench")
        yield module


@pytest.mark.parametrize("path", sorted(BENCHMARKS.rglob("*.py")), ids=lambda path: path.stem)
def test_what_a_benchmark_takes_from_twinvae_is_there(path: Path) -> None:
    """Also what a function imports, which else shows after minutes of measuring."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twinvae"):
            found = importlib.import_module(str(node.module))
            for name in (alias.name for alias in node.names):
                known = hasattr(found, name) or importlib.util.find_spec(f"{node.module}.{name}")
                assert known, f"{path.name}:{node.lineno}: {node.module}.{name}"


def points(costs: dict[int, float]) -> list[dict[str, Any]]:
    return [
        {"stage": "evaluate", "n": n, "repeat": 0, "cpu": cost, "seconds": cost,
         "added_gib": 0.0, "peak_gib": 0.2}
        for n, cost in costs.items()
    ]  # fmt: skip


def test_a_row_holds_its_median_against_the_aim(bench: Any) -> None:
    row = bench("measuring").row
    assert row("a", "b", [1.0, 1.02, 9.0], most=1.05)["reached"]
    assert not row("a", "b", [1.0, 1.2, 1.3], most=1.05)["reached"]
    assert row("a", "b", [1.4, 1.6, 1.7], least=1.5)["reached"]
    assert row("a", "b", [2.0])["reached"] is None
    assert row("a", "b", [], most=300.0)["reached"] is False  # no figure reaches no aim


@pytest.mark.parametrize(
    ("number", "unit", "shown"),
    [
        (1840.4, "s", "1,840 s"),
        (99.99, "s", "100 s"),
        (0.0123456, "×", "0.0123 ×"),
        (84.6, "%", "85 %"),
        (1.1, "", "1.1"),
        (None, "s", "–"),
    ],
)
def test_numbers_are_short(bench: Any, number: float | None, unit: str, shown: str) -> None:
    assert bench("measuring").value_of({"median": number, "unit": unit}, "median") == shown


def test_quartiles_are_those_of_numpy(bench: Any) -> None:
    values = [3.0, 1.0, 4.0, 1.5, 9.0, 2.6]
    wanted = torch.quantile(torch.tensor(values), torch.tensor([0.25, 0.5, 0.75])).tolist()
    assert bench("measuring").quartiles(values) == pytest.approx(wanted)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_power_of_growth_is_found(bench: Any, power: float) -> None:
    found = points({n: 3e-4 * n**power for n in (100, 400, 1600)})
    time_row, memory_row = bench("scaling").rows_of("evaluate", found)
    assert time_row["median"] == pytest.approx(power)
    assert time_row["reached"] is (power == 1.0)
    assert memory_row["median"] == 0
    assert memory_row["reached"]


def test_growth_that_constant_costs_hide_is_told_by_the_last_sizes(bench: Any) -> None:
    found = points({n: 50 + 1e-5 * n**2 for n in (100, 400, 1600, 6400)})
    time_row, _ = bench("scaling").rows_of("evaluate", found)
    assert time_row["median"] < 1.1
    assert time_row["reached"] is False
    assert "last two sizes 1." in time_row["note"]


def test_a_size_that_would_take_too_long_is_not_tried(bench: Any) -> None:
    done = points({100: 1.0, 400: 16.0})
    assert "about 256 s" in bench("scaling").too_much(done, 1600, memory=8.0, minutes=4.0)
    assert not bench("scaling").too_much(done, 1600, memory=8.0, minutes=5.0)


def test_a_point_that_failed_is_said(bench: Any) -> None:
    found = [*points({100: 1.0, 400: 4.0}), {"stage": "evaluate", "n": 1600, "failed": "late"}]
    for one in bench("scaling").rows_of("evaluate", found):
        assert "at 1,600: late" in one["note"]
    assert bench("figure").scaling_figure(found).axes


def test_a_program_is_seen_from_outside(bench: Any, tmp_path: Path) -> None:
    run = bench("measuring").run_program
    hungry = "x = bytearray(200 * 2**20); print('done')"
    done = run([sys.executable, "-c", hungry], log=tmp_path / "log")
    assert (tmp_path / "log").read_text() == "done\n"
    assert (done.failed, done.output) == ("", "done")
    assert done.peak_gib > 0.19
    assert "exit code 3" in run([sys.executable, "-c", "raise SystemExit(3)"]).failed
    started = time.monotonic()
    late = run([sys.executable, "-c", "import time; time.sleep(60)"], timeout=0.5)
    assert late.failed == "not done after 0.5 s"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize("ends", [False, True])
def test_another_thread_takes_turns(bench: Any, ends: bool) -> None:
    gate, steps = bench("trainers").Gate(3), []

    def train() -> None:
        gate.ready()
        for number in range(100):
            if ends and number == 4:
                raise ValueError("broken trainer")
            steps.append(number)
            gate.step_done()

    thread = gate.run(train, threads=1)
    assert steps == []
    gate.turn()
    assert len(steps) == 3
    if ends:
        with pytest.raises(RuntimeError, match="broken trainer"):
            gate.turn()
    else:
        gate.turn()
        assert len(steps) == 6
    gate.open()
    thread.join(timeout=30)
    assert not thread.is_alive()


def outcome(**changes: Any) -> dict[str, Any]:
    found = {"part": "detect", "arguments": ["--scans", "100"], "date": "2026-11-27 10:00",
             "minutes": 2.0, "others": 3.0, "failed": "", "rows": [], "left_out": []}  # fmt: skip
    return found | changes


def test_a_part_is_kept_while_it_is_younger_than_the_code(bench: Any, tmp_path: Path) -> None:
    parts, path = bench("parts"), tmp_path / "detect.json"
    (detect,) = parts.chosen(["detect"])
    how: dict[str, Any] = {"quick": False, "rivals_python": None}
    assert not parts.kept(detect, path, **how)
    path.write_text(json.dumps(outcome()))
    assert parts.kept(detect, path, **how)
    assert not parts.kept(detect, path, **how | {"quick": True})  # other sizes
    (training,) = parts.chosen(["training"])
    path.write_text(json.dumps(outcome(arguments=["--rounds", "12"])))
    assert not parts.kept(training, path, quick=False, rivals_python="python")  # now with rivals
    path.write_text(json.dumps(outcome(failed="exit code 1")))
    assert not parts.kept(detect, path, **how)
    path.write_text(json.dumps(outcome()))
    os.utime(path, (0, 0))
    assert not parts.kept(detect, path, **how)


def test_the_page_says_what_was_missed_and_what_was_not_run(bench: Any) -> None:
    row = bench("measuring").row
    rows = [row("detect | one", "", [3.5, 4.0], "s", most=3.0, note="in /home/someone/data/a.nii")]
    parts = bench("parts").chosen(["detect", "training", "startup"])
    outcomes = {
        "detect": outcome(rows=rows, left_out=["pythae: No module"], others=40.0),
        "startup": outcome(part="startup", failed="exit code 2: /tmp/x/y: gone"),
    }
    text = bench("page").page(parts, outcomes, "images/scaling.png", quick=False)
    assert "| detect / one |  | 3.75 s | 3.62 s to 3.88 s | ≤ 3 s | **missed** | in a.nii |" in text
    assert "busy machine: other programs took up to 40 %" in text
    assert "start-up and imports: exit code 2: y: gone" in text
    assert "training, one thread: not done yet" in text
    assert "pythae: No module" in text
    assert "(images/scaling.png)" in text
    assert "A quick run" not in text
    assert "A quick run" in bench("page").page(parts, outcomes, None, quick=True)


@pytest.mark.parametrize("stage", ["index", "calibrate", "read scores"])
def test_a_stage_makes_its_input_and_does_it(bench: Any, stage: str, tmp_path: Path) -> None:
    found = bench("scaling_stages").STAGES[stage].make(tmp_path, 12)()
    assert len(found) >= 4


@pytest.mark.parametrize("name", ["training", "prepare", "startup"])
def test_rivals_come_from_their_own_environment(bench: Any, name: str, tmp_path: Path) -> None:
    (part,) = bench("parts").chosen([name])
    command = part.command(tmp_path / "x.json", quick=True, rivals_python="other-python")
    assert "other-python" in command
    assert (command[0] == "other-python") is (name == "training")
    alone = part.command(tmp_path / "x.json", quick=True, rivals_python=None)
    assert alone[0] == sys.executable
    assert ("--no-rivals" in alone) is (name == "prepare")


def test_every_format_gives_the_slices_that_were_written(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, formats = bench("slice_store"), bench("slice_formats")
    monkeypatch.setattr(formats, "SHARD", 96)  # a scan has 130: it goes on in the next file
    cohort = store.Cohort(scans=3, size=8)
    wanted = np.concatenate(list(cohort.all()))
    rows = np.array([3, 95, 96, 97, 250, 389])
    for number, (needs, form) in enumerate(formats.FORMATS.values()):
        if importlib.util.find_spec(needs) is None:
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        form.write(folder, cohort.all(), cohort.shape)
        array = form.open(folder)
        assert np.array_equal(array[rows], wanted[rows])
        assert np.array_equal(array[130:260], wanted[130:260])
        assert np.array_equal(array[0:390], wanted)


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_every_benchmark_can_be_imported(bench: Any, path: Path) -> None:
    assert bench(path.stem)  # what a script takes from the package is still there


def test_preparation_is_held_against_what_others_take(bench: Any) -> None:
    took = {
        "twinvae": 0.25,
        "twinvae-n4": 1.0,
        "twinvae-register": 2.0,
        "torchio": 0.8,
        "monai": 0.4,
    }
    results = {tool: [{"seconds": s, "wall": s, "peak_gib": 0.7}] * 3 for tool, s in took.items()}
    rows = {one["what"]: one for one in bench("prepare").rows_of(results)}
    assert rows["torchio: prepare a scan"]["median"] == pytest.approx(3.2)
    assert rows["torchio: prepare a scan"]["reached"]
    assert rows["monai: prepare a scan"]["reached"] is False
    del results["monai"]
    assert "monai: prepare a scan" not in {one["what"] for one in bench("prepare").rows_of(results)}


def test_the_naive_bootstrap_is_timed_and_multiplied(bench: Any) -> None:
    from twinvae.config import EvaluationConfig

    cost = bench("evaluation_cost")
    table = cost.simulated(3, 10, 20)
    options = EvaluationConfig(min_tumour_px=(50,), resamples=50)
    found = cost.against_naive(table, options, rounds=2, few=2)
    assert found["runs"] == 2
    assert found["median"] > 0
    assert "2 of its 50 resamples" in found["note"]
