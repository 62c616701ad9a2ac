"""Shell completion, asked as bash asks: by environment variables, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from twinvae.commands import completing
from twinvae.config import preset_names
from twinvae.detection.shipped import shipped_bundles, shipped_composites
from twinvae.runs.folder import STAGES
from twinvae.scoring.table import KEY_COLUMNS, OPTIONAL_COLUMNS

RUN = (
    "import atexit, json, sys; sys.argv[0] = 'twinvae'; "
    "atexit.register(lambda: print(json.dumps('torch' in sys.modules), file=sys.stderr)); "
    "from twinvae.commands.app import main; main()"
)


def offered(line: str, cwd: Path | None = None) -> list[str]:
    """What bash offers for the last word of ``line``; torch must not have been imported."""
    words = line.split(" ")
    asked = {
        "_TWINVAE_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, **asked},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stderr.strip()) is False, "torch was imported"
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("twinvae det", ["detect"]),
        ("twinvae bundles show ", [*shipped_bundles(), *shipped_composites()]),
        ("twinvae detect fl", ["flair"]),
        ("twinvae calibrate t", ["t1w", "t2w"]),
        ("twinvae run ", preset_names()),
        ("twinvae run demo --until ", list(STAGES)),
        ("twinvae run demo --device c", ["cpu", "cuda"]),
        ("twinvae run demo --precision ", ["fp32", "bf16", "auto"]),
        ("twinvae run demo --set training.healthy.epo", ["training.healthy.epochs="]),
        ("twinvae index somewhere --role ", ["healthy", "mixed"]),
        ("twinvae detect ./some", []),  # then the shell completes the path
    ],
)
def test_what_is_offered(line: str, expected: list[str]) -> None:
    assert offered(line) == expected


def test_the_scores_of_the_table_are_offered(tmp_path: Path) -> None:
    header = [*KEY_COLUMNS, *OPTIONAL_COLUMNS, "mine", "mine_too", "yours"]
    (tmp_path / "scores.tsv").write_text("\t".join(header) + "\n")
    assert offered("twinvae evaluate scores.tsv --score mi", tmp_path) == ["mine", "mine_too"]
    assert offered("twinvae evaluate scores.tsv --score ", tmp_path) == header[-3:]
    assert offered("twinvae evaluate missing.tsv --score ", tmp_path) == []


def test_columns_that_are_no_scores_are_those_of_the_table() -> None:
    assert {*KEY_COLUMNS, *OPTIONAL_COLUMNS} == completing.NO_SCORES


def test_the_script_for_bash_asks_in_this_way() -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        env={**os.environ, "_TWINVAE_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_TWINVAE_COMPLETE=complete_bash" in done.stdout
