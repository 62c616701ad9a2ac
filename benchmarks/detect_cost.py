"""What ``detect`` costs: one scan from the command line, many, and beside a plain loop.

    python benchmarks/detect_cost.py [--bundle t2w] [--scans 100] [--rounds 5] [--threads 2]

Scans are 240×240×155 as BraTS ships them, generated (``prepare.py``); of many, all but three are
links to these. One scan: seconds of the clock from the start of ``twinvae detect`` to its end; and
those of ``detect_scans`` in a process that has imported it and judged nothing.
Plain loop: the scan prepared by the same recipe, the network's healthy reconstruction and the
largest difference in each slice; no scores, thresholds, domain, maps on the scan's grid or pages.
Both loops take turns in one process, and their ratio is of processor seconds. ``--force``, since
generated scans are of no hospital.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from measuring import Program, Row, ratios, row, run_program, told, write_part

ONE_SECONDS, MANY_SECONDS = 3.0, 0.5
DIFFERENT = 3  # scans


def make_scans(folder: Path, count: int) -> list[Path]:
    """So many files; a process of its own writes the voxels, for this one must stay small."""
    folder.mkdir(parents=True)
    done = run_program([sys.executable, __file__, "--make", folder], timeout=1800)
    if done.failed:
        raise RuntimeError(f"no scans: {done.failed}\n{done.output}")
    scans = sorted(folder.glob("*.nii.gz"))
    for number in range(count - DIFFERENT):
        link = folder / f"link-{number:04d}-t2w.nii.gz"
        link.symlink_to(scans[number % DIFFERENT])
        scans.append(link)
    return scans[:count]


def from_command_line(bundle: str, scans: list[Path], out: Path, threads: int) -> Program:
    """One call of ``twinvae detect``."""
    command = [sys.executable, "-m", "twinvae", "detect", bundle, *scans, "-o", out]
    done = run_program([*command, "--force", "--threads", str(threads)], timeout=3600)
    if done.failed:
        raise RuntimeError(f"twinvae detect: {done.failed}\n{done.output}")
    return done


def after_start(bundle: str, scan: Path, out: Path, threads: int) -> None:
    """Print the seconds of the clock that the first scan of a process takes, imports left out."""
    from twinvae.detection.detect import detect_scans

    started = time.perf_counter()
    detect_scans(bundle, [scan], out, force=True, threads=threads)
    print(time.perf_counter() - started)


def loops(bundle: str, scans: list[Path], rounds: int, threads: int, room: Path) -> None:
    """Print the processor seconds a scan of ``detect_scans`` and of a plain loop, as JSON.

    Each call of the former reads the bundle, too.
    """
    import torch

    from twinvae.detection.bundle import read_bundle
    from twinvae.detection.detect import detect_scans
    from twinvae.detection.look import Reader
    from twinvae.detection.shipped import bundle_path
    from twinvae.imaging import ScanFiles, prepare_scan
    from twinvae.scoring.loop import batches

    reader = Reader.of(read_bundle(bundle_path(Path(bundle))), threads=threads)
    options = reader.bundle.config.scoring

    def plain(scan: ScanFiles) -> float:
        prepared = prepare_scan(scan, reader.bundle.recipe)
        rows, highest = prepared.index.index.to_numpy(), 0.0
        with torch.inference_mode():
            for batch in batches(prepared, rows, reader.bundle.models, options, reader.compute):
                highest = max(highest, float((batch.x - batch.x_h).abs().amax()))
        return highest

    def detect(scan: ScanFiles) -> None:
        detect_scans(bundle, [scan.image], room / scan.subject, force=True, threads=threads)

    found: dict[str, list[float]] = {"detect": [], "plain": []}
    for number in range(-1, rounds):  # the first round warms up
        scan = ScanFiles(f"round-{number}", scans[number % DIFFERENT])
        for name, work in (("detect", detect), ("plain", plain)):
            started = time.process_time()
            work(scan)
            if number >= 0:
                found[name].append(time.process_time() - started)
    print(json.dumps(found))


def measure(bundle: str, count: int, rounds: int, threads: int) -> list[Row]:
    """The table's lines."""
    with tempfile.TemporaryDirectory() as name:
        room = Path(name)
        scans = make_scans(room / "scans", count)
        ones = [
            from_command_line(bundle, scans[:1], room / f"one-{number}", threads)
            for number in range(-1, rounds)
        ][1:]
        command = [sys.executable, __file__, "--bundle", bundle, "--threads", str(threads)]
        firsts = [told([*command, "--first", scans[0]]) for _ in range(rounds)]
        many = from_command_line(bundle, scans, room / "many", threads)
        found = told([*command, "--loops", room / "scans", "--rounds", str(rounds)])
    cpu = statistics.median(one.cpu for one in ones)
    enough = count >= 100  # scans that the aim speaks of
    return [
        row(f"detect {bundle}, one scan, start-up included", "", [one.seconds for one in ones], "s",
            most=ONE_SECONDS, note=f"{threads} threads; {cpu:.2f} s of the processor"),
        row(f"detect {bundle}, one scan, after start-up", "", firsts, "s", most=ONE_SECONDS,
            note=f"{threads} threads; by the clock, of a process that has judged nothing before"),
        row(f"detect {bundle}, {count} scans, each", "", [many.seconds / count], "s",
            most=MANY_SECONDS if enough else None,
            note=f"{threads} cores; {many.cpu / count:.2f} s of the processor each"),
        row(f"detect {bundle}, a further scan, results written",
            "plain loop: prepared, x_h, largest difference; nothing written",
            ratios(found["detect"], found["plain"]),
            note=f"{statistics.median(found['detect']):.2f} s of the processor a scan"),
        row(f"detect {bundle}, memory, one scan", "", [max(one.peak_gib for one in ones)], "GiB"),
        row(f"detect {bundle}, memory, {count} scans", "", [many.peak_gib], "GiB"),
    ]  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", default="t2w")
    parser.add_argument("--scans", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--loops", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.make:
        from prepare import brats_like

        brats_like(given.make, DIFFERENT)
    elif given.first:
        with tempfile.TemporaryDirectory() as room:
            after_start(given.bundle, given.first, Path(room) / "out", given.threads)
    elif given.loops:
        with tempfile.TemporaryDirectory() as room:
            scans = sorted(given.loops.glob("generated-*.nii.gz"))
            loops(given.bundle, scans, given.rounds, given.threads, Path(room))
    else:
        scans = max(DIFFERENT, given.scans)
        write_part(given.out, measure(given.bundle, scans, given.rounds, given.threads))


if __name__ == "__main__":
    main()
