"""A generated cohort: two BIDS data sets, ``healthy`` and ``mixed``, from one seed."""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np

from twinvae.cohort.phantom.labelled import (
    label_map_of,
    labelled_body,
    make_labelled_subject,
)
from twinvae.cohort.phantom.labels import label_maps
from twinvae.cohort.phantom.layout import (
    lesion_mm3,
    own_subjects,
    subject_files,
    subject_id,
    write_dataset,
    write_subject,
)
from twinvae.cohort.phantom.subject import Subject, body_of, has_tumour, make_subject
from twinvae.config import PhantomConfig, Role
from twinvae.errors import StageError
from twinvae.files import read_json, write_json
from twinvae.outputs import claim, locked, remove
from twinvae.parallel import cores, end_with_parent
from twinvae.progress import progress_bar

# Raise this whenever the generator's voxels change, so that folders made before are made anew.
GENERATOR_VERSION = 3
LABELLED_VERSION = 1
_STAMP = "phantom.json"
_ROLES: tuple[Role, ...] = ("healthy", "mixed")


def generate_cohort(out: Path, options: PhantomConfig, *, jobs: int | None = None) -> None:
    """Write ``options.healthy`` and ``options.mixed`` subjects to ``out/healthy``, ``out/mixed``.

    Subjects already complete in ``out`` are kept when they were made with the same seed, voxel
    size, share of tumours, contrast and label maps; other generated ones are removed, and nothing
    else is. The bytes do not depend on ``jobs``, the number of processes (by default one per core).
    Raises ``OutputError`` when ``out`` holds anything but a generated cohort.
    """
    out = Path(out)
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, found {jobs}")
    claim(out, "generated cohort", [] if options.labels is None else [options.labels])
    with locked(out):
        _generate_all(out, options, jobs)


def _generate_all(out: Path, options: PhantomConfig, jobs: int | None) -> None:
    _start(out, options)
    todo = [
        (role, index)
        for role in _ROLES
        for index in range(getattr(options, role))
        if not all(p.is_file() for p in _files(out, options, role, index).values())
    ]
    if options.labels is not None:  # a process then reads each label map once
        todo.sort(key=lambda subject: label_map_of(options, *subject))
    with progress_bar("phantom", total=len(todo)) as bar:
        for role, index in _run(out, options, todo, jobs or cores()):
            bar.note(subject_id(role, index))
            bar.advance()
    for role in _ROLES:
        # Subjects of an earlier, larger cohort of the same options.
        remove(out / role, own_subjects(out / role, role, getattr(options, role)))
        write_dataset(out / role, role, options.contrast, _participants(out, role, options))


def _start(out: Path, options: PhantomConfig) -> None:
    """Make sure that what is in ``out`` was made with the same options."""
    stamp = _stamp(options)
    path = out / _STAMP
    if path.is_file() and read_json(path) == stamp:
        return
    for role in _ROLES:
        remove(out / role, own_subjects(out / role, role))
    write_json(path, stamp)


def _stamp(options: PhantomConfig) -> dict[str, Any]:
    """What decides the voxels of a subject."""
    stamp: dict[str, Any] = {
        "generator": GENERATOR_VERSION,
        "seed": options.seed,
        "spacing_mm": options.spacing_mm,
        "tumour_share": options.tumour_share,
    }
    if options.labels is not None:
        sums = {p.name: hashlib.sha256(p.read_bytes()) for p in label_maps(options.labels)}
        stamp["labels"] = {name: found.hexdigest()[:16] for name, found in sums.items()}
        stamp |= {"generator": LABELLED_VERSION, "contrast": options.contrast}
    return stamp


def _run(
    out: Path, options: PhantomConfig, todo: list[tuple[Role, int]], jobs: int
) -> Iterator[tuple[Role, int]]:
    """Generate the subjects of ``todo``, yielding each as it is done."""
    if jobs == 1 or len(todo) < 4:
        for role, index in todo:
            _generate(out, options, role, index)
            yield role, index
        return
    # Spawned, not forked: the parent may hold torch's threads, which a fork would break.
    context = multiprocessing.get_context("spawn")
    workers = min(jobs, len(todo))
    with ProcessPoolExecutor(workers, context, initializer=end_with_parent) as pool:
        futures = {
            pool.submit(_generate, out, options, role, index): (role, index) for role, index in todo
        }
        try:
            for future in as_completed(futures):
                future.result()
                yield futures[future]
        except BrokenProcessPool:
            raise StageError(
                "phantom: a process died, perhaps for lack of memory; run it again to go on where "
                "it stopped, with fewer jobs"
            ) from None
        finally:
            pool.shutdown(cancel_futures=True)


def _generate(out: Path, options: PhantomConfig, role: Role, index: int) -> None:
    make: Callable[[PhantomConfig, Role, int], Subject]
    make = make_subject if options.labels is None else make_labelled_subject
    write_subject(_files(out, options, role, index), make(options, role, index))


def _files(out: Path, options: PhantomConfig, role: Role, index: int) -> dict[str, Path]:
    return subject_files(out / role, role, index, options.contrast)


def _participants(out: Path, role: Role, options: PhantomConfig) -> list[dict[str, str]]:
    rows = []
    for index in range(getattr(options, role)):
        body = (body_of if options.labels is None else labelled_body)(options, role, index)
        row = {"participant_id": subject_id(role, index), "age": str(body.age)}
        if options.labels is not None:
            row["label_map"] = label_map_of(options, role, index).name
        if role == "mixed":
            tumour = has_tumour(options, index)
            mm3 = lesion_mm3(_files(out, options, role, index)["lesion"]) if tumour else 0.0
            diameter = f"{np.cbrt(6 * mm3 / np.pi):.1f}" if tumour else "n/a"
            row |= {"tumour": "yes" if tumour else "no", "tumour_mm3": f"{mm3:g}"}
            row["tumour_diameter_mm"] = diameter
        rows.append(row)
    return rows
