"""What twinvae does when it is killed, out of space, in company, or given damaged files.

    python benchmarks/campaign [--only kills,headers] [--seed 0] [--out FOLDER]

Each part's outcome is kept in FOLDER, so that parts can be done one after another; without
``--only`` those kept for this seed are not done again (``--fresh`` does). Prints one table, and
each fault as it is found; the exit code is 1 when there is any. Linux; mounts need root or
`unshare -rm`. docs/reliability.md says what the rows mean.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy: children are forked
    os.environ[_name] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))  # tiny, dicom_files

import numpy as np  # noqa: E402
from disk import disk_full, read_only  # noqa: E402
from flips import bundle_flips, run_flips  # noqa: E402
from headers import headers  # noqa: E402
from kills import kills  # noqa: E402
from pairs import two_processes  # noqa: E402
from room import Part, Room, Tally  # noqa: E402

PARTS: dict[str, tuple[str, Part]] = {
    "kills": ("kills at random moments", kills),
    "disk-full": ("disk full, at every stage", disk_full),
    "read-only": ("read-only output, every command", read_only),
    "two": ("two processes, one output", two_processes),
    "run-flips": ("bit flips, every file of a run", run_flips),
    "bundle-flips": ("bit flips, every file of a bundle", bundle_flips),
    "headers": ("mutated headers", headers),
}
_HEAD = "| part | tried | survived | lost | tracebacks | silently wrong | seconds |"


def table(tallies: dict[str, Tally]) -> str:
    """In Markdown, in the order of PARTS."""
    lines = [_HEAD, "|---|---:|---:|---:|---:|---:|---:|"]
    for name, (title, _) in PARTS.items():
        if tally := tallies.get(name):
            counts = (tally.count(kind) for kind in ("lost", "traceback", "wrong"))
            cells = [title, tally.tried, tally.survived, *counts, round(tally.seconds)]
            lines.append(
                "| " + " | ".join(f"{c:,}" if isinstance(c, int) else c for c in cells) + " |"
            )
    return "\n".join(lines)


def kept(folder: Path, seed: int) -> dict[str, Tally]:
    """Outcomes of earlier parts with this seed."""
    found = [Tally(**json.loads(p.read_text())) for p in sorted(folder.glob("*.json"))]
    return {tally.part: tally for tally in found if tally.seed == seed}


def with_mounts() -> None:
    """Go on as root of a name space of one's own, where mounts are not allowed otherwise."""
    if os.geteuid() and "TWINVAE_CAMPAIGN" not in os.environ:
        os.environ["TWINVAE_CAMPAIGN"] = "1"
        if subprocess.run(["unshare", "-rm", "true"], check=False).returncode == 0:
            os.execvp("unshare", ["unshare", "-rm", sys.executable, *sys.argv])


def main() -> int:
    """Do parts, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help=f"of {','.join(PARTS)}")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/campaign"))
    parser.add_argument("--fresh", action="store_true", help="do parts again")
    options = parser.parse_args()
    with_mounts()
    names = [name for name in options.only.split(",") if name]
    if unknown := set(names) - PARTS.keys():
        parser.error(f"--only: expected some of {','.join(PARTS)}, found {','.join(unknown)}")
    options.out.mkdir(parents=True, exist_ok=True)
    tallies = kept(options.out, options.seed)
    todo = names or [n for n in PARTS if n not in tallies or options.fresh]
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        room = Room(Path(folder))
        if set(todo) - {"headers"}:
            room.do_run()
        for name in todo:
            print(f"{PARTS[name][0]} …", flush=True)
            tally = Tally(name, options.seed)
            rng = np.random.default_rng((options.seed, list(PARTS).index(name)))
            started = time.monotonic()
            PARTS[name][1](room, rng, tally)
            tally.seconds = time.monotonic() - started
            tallies[name] = tally
            (options.out / f"{name}.json").write_text(json.dumps(asdict(tally), indent=2))
            for note in tally.notes:
                print(f"  {note}")
    print(table(tallies))
    return int(any(tally.faults for tally in tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
