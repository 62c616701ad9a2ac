"""Start-up and import time and memory, beside torch's and the rivals' own imports.

    python benchmarks/startup_cost.py [--rounds 7] [--rivals-python PATH] [--out FILE]

Every program is a process of its own, and they take turns, round by round. Ratios are of processor
seconds, so that other programs hardly matter; what has a bound in seconds is of the clock.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path

from measuring import Program, Row, ratios, row, run_program, write_part

HELP_SECONDS = 0.5
DETECTION = "everything that detection imports"
OWN = {
    "twinvae --help": ["-m", "twinvae", "--help"],
    "import twinvae": ["-c", "import twinvae"],
    DETECTION: ["-c", "import twinvae; twinvae.Detector"],
    "import torch": ["-c", "import torch"],
}
RIVALS = {f"import {name}": ["-c", f"import {name}"] for name in
          ("lightning", "monai", "torchio", "pythae.trainers")}  # fmt: skip


def rows_of(found: dict[str, list[Program]]) -> list[Row]:
    """The table's lines."""
    cpu = {name: [one.cpu for one in runs] for name, runs in found.items()}
    rows = [
        row(name, "", [one.seconds for one in found[name]], "s",
            most=HELP_SECONDS if name == "twinvae --help" else None,
            note=f"{statistics.median(cpu[name]):.2f} s of the processor")
        for name in ("twinvae --help", "import twinvae", DETECTION)
    ]  # fmt: skip
    rows.append(row(DETECTION, "import torch alone", ratios(cpu[DETECTION], cpu["import torch"])))
    rows += [
        row(name, DETECTION, ratios(cpu[name], cpu[DETECTION])) for name in RIVALS if name in found
    ]
    peaks = {name: max(one.peak_gib for one in runs) for name, runs in found.items()}
    rows.append(row(f"memory after: {DETECTION}", "", [peaks[DETECTION]], "GiB",
                    note=f"torch alone {peaks['import torch']:.2f} GiB"))  # fmt: skip
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rivals-python", help="an interpreter that has the rivals")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    commands = {name: [sys.executable, *command] for name, command in OWN.items()}
    left_out = []
    if given.rivals_python:
        commands |= {name: [given.rivals_python, *command] for name, command in RIVALS.items()}
    else:
        left_out.append("imports of the rivals: no environment that has them")
    for name, command in list(commands.items()):  # untimed: files come into the cache
        if failed := run_program(command).failed:
            left_out.append(f"{name}: {failed}")
            del commands[name]
    found: dict[str, list[Program]] = {name: [] for name in commands}
    for _ in range(given.rounds):
        for name, command in commands.items():
            found[name].append(run_program(command))
    write_part(given.out, rows_of(found), left_out)


if __name__ == "__main__":
    main()
