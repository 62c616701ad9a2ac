"""The command `twinvae-bids`, a BIDS App: https://bids-apps.neuroimaging.io.

Positions and names of options are those that every BIDS App has, lists of labels included
(``--participant-label 01 02``), which is why argparse reads them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twinvae import __version__
from twinvae.commands.app import exits
from twinvae.commands.detect import judge_as_planned
from twinvae.errors import ConfigError, DataError, some_of
from twinvae.progress import say

if TYPE_CHECKING:
    from twinvae.detection.plan import Plan

VALIDATOR = "bids-validator-deno"


def main(words: Sequence[str] | None = None) -> None:
    """Read the command line and do as it says; see ``exits`` for what goes wrong."""
    given = _parser().parse_args(words)
    with exits():
        if given.analysis_level == "group":
            _group(given.bids_dir, given.output_dir)
        else:
            _participants(given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="twinvae-bids",
        description="Find tumours in the brain MRI of a BIDS data set, without tumour labels. "
        "Research software, not for clinical use.",
        epilog="Example: twinvae-bids /data /data/derivatives/twinvae participant "
        "--participant-label 01 --bundle t2w",
    )
    add = parser.add_argument
    add("bids_dir", type=Path, help="The BIDS data set.")
    add("output_dir", type=Path, help="Folder for the BIDS derivatives.")
    add(
        "analysis_level",
        choices=("participant", "group"),
        help="participant: judge scans; group: the table and the index of all that is there.",
    )
    labels: dict[str, Any] = {"nargs": "+", "default": [], "metavar": "LABEL"}
    add("--participant-label", "--participant_label", **labels, help="Only these, sub- or not.")
    add("--session-label", "--session_label", **labels, help="Only these, ses- or not.")
    add("--bundle", default="any", help="t2w, flair, t1w, any (default), or a bundle's folder.")
    add(
        "--skip-bids-validation",
        "--skip_bids_validator",
        action="store_true",
        help=f"Do not run the BIDS validator ({VALIDATOR}) first.",
    )
    add("--n_cpus", "--n-cpus", type=int, default=1, help="Cores to use, 1 by default.")
    add(
        "--skull-strip",
        choices=("auto", "hd_bet", "template"),
        help="How the brain is found in heads without a mask; else they must be skull-stripped.",
    )
    add("--maps", nargs="+", default=[], help="Further maps; see twinvae scores maps.")
    add("--device", default="auto", help="auto (default), cpu or cuda.")
    add("--force", action="store_true", help="Judge scans out of domain too.")
    add("--again", action="store_true", help="Keep no result of an earlier call.")
    add("--dry-run", action="store_true", help="Say what would be judged; write nothing.")
    add("--version", action="version", version=f"twinvae {__version__}")
    return parser


def _participants(given: argparse.Namespace) -> None:
    """Judge scans, after the validator has seen the data set."""
    from twinvae.detection.options import DetectOptions
    from twinvae.detection.plan import plan_detection
    from twinvae.detection.shipped import is_composite

    if given.n_cpus < 1:
        raise ConfigError(f"n_cpus: expected at least 1, found {given.n_cpus}")
    _require_folder(given.bids_dir)
    if not given.skip_bids_validation:
        _validate(given.bids_dir)
    options = DetectOptions(
        participants=given.participant_label,
        sessions=given.session_label,
        skull_strip=given.skull_strip == "auto" or given.skull_strip or False,
        maps=given.maps,
        force=given.force,
        again=given.again,
        device=given.device,
        layout="bids",
    )
    plan = _sharing(
        plan_detection(
            given.bundle, given.bids_dir, given.output_dir, options,
            together=is_composite(given.bundle),
        ),
        given.n_cpus,
    )  # fmt: skip
    judge_as_planned(plan, dry_run=given.dry_run)


def _sharing(plan: Plan, cores: int) -> Plan:
    """The plan with as many processes as there are scans for, and the cores shared by them."""
    jobs = max(1, min(cores, sum(not task.kept for task in plan.tasks)))
    return replace(plan, options=replace(plan.options, jobs=jobs, threads=cores // jobs))


def _group(source: Path, out: Path) -> None:
    """Write the table and the index of all results in ``out``."""
    from twinvae.detection.bids_dataset import write_dataset
    from twinvae.outputs import check_claimable

    _require_folder(source)
    _require_folder(out)
    check_claimable(out, "BIDS derivatives", [source])
    write_dataset(out, source)
    say(f"group: {out / 'summary.tsv'} and {out / 'index.html'}")


def _require_folder(folder: Path) -> None:
    if not folder.is_dir():
        found = "a file" if folder.exists() else "none"
        raise DataError(f"{folder}: expected a folder, found {found}")


def _validate(root: Path) -> None:
    """Raise ``DataError`` with what the BIDS validator calls an error, where it is installed."""
    validator = shutil.which(VALIDATOR)
    if validator is None:
        say(f"no BIDS validation: {VALIDATOR} is not installed (pip install {VALIDATOR})")
        return
    done = subprocess.run(
        [validator, "--format", "json", "--ignoreWarnings", str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        issues = json.loads(done.stdout)["issues"]["issues"]
    except (json.JSONDecodeError, KeyError, TypeError):
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise DataError(
            f"{root}: expected a report of {VALIDATOR}, found {said[-1]}; "
            f"--skip-bids-validation goes on without it"
        ) from None
    errors = [f"{one['code']} {one.get('location', '')}" for one in issues if _is_error(one)]
    if errors:
        raise DataError(
            f"{root}: expected a valid BIDS data set, found {len(errors)} errors "
            f"(--skip-bids-validation goes on all the same):\n  " + some_of(errors, joint="\n  ")
        )


def _is_error(issue: dict[str, Any]) -> bool:
    return issue.get("severity") == "error"


if __name__ == "__main__":
    main()
