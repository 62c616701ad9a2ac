"""Seeded splits by subject, within each source and role; never by slice."""

from __future__ import annotations

import zlib

import numpy as np
import pandas as pd

from twinvae.cohort.manifest import validate_manifest
from twinvae.config import SplitConfig
from twinvae.vocabulary import SPLITS


def assign_splits(table: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """Give every subject without a split one of train, val, test.

    ``table`` is a manifest; a subject is a pair of source and subject. Splits already given are
    kept, and count towards the shares; all scans of a subject follow it. The draw depends on the
    seed, the source, the role and the subjects' names only, not on the order of the rows or on
    other sources. Of n subjects each split gets its share rounded by largest remainder (100 →
    70/15/15, 274 → 192/41/41), but at least one where its share is not zero; where subjects are too
    few for that, ``train`` comes first and ``test`` last (``empty_splits`` tells).
    """
    table = table.reset_index(drop=True).copy()
    validate_manifest(table, "splits", check_files=False)
    people = list(zip(table["source"], table["subject"], strict=True))
    strata = list(zip(table["source"], table["role"], strict=True))
    known = {person: str(s) for person, s in zip(people, table["split"], strict=True) if s}
    for stratum in sorted(set(strata)):
        members = {person for person, at in zip(people, strata, strict=True) if at == stratum}
        known.update(_draw(sorted(members), known, config, "/".join(stratum)))
    table["split"] = [known[person] for person in people]
    return table


def empty_splits(table: pd.DataFrame, config: SplitConfig) -> list[str]:
    """A sentence for each source and role that has no subject in a split that was asked for."""
    said = []
    for (source, role), rows in table.groupby(["source", "role"]):
        lacking = [n for n in SPLITS if getattr(config, n) > 0 and n not in set(rows["split"])]
        if lacking:
            said.append(
                f"{source}: none of its {rows['subject'].nunique()} {role} subjects is in "
                f"{' or '.join(lacking)}"
            )
    return said


def split_sizes(subjects: int, config: SplitConfig) -> dict[str, int]:
    """How many of ``subjects`` each split gets: largest remainder, at least one where asked.

    The paper's 100 healthy volunteers:

    >>> split_sizes(100, SplitConfig())
    {'train': 70, 'val': 15, 'test': 15}
    """
    shares = {name: float(getattr(config, name)) for name in SPLITS}
    exact = {name: round(share * subjects, 9) for name, share in shares.items()}
    sizes: dict[str, int] = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(SPLITS, key=lambda name: sizes[name] - exact[name])
    for name in by_remainder[: subjects - sum(sizes.values())]:
        sizes[name] += 1
    for name in SPLITS:
        if shares[name] > 0 and sizes[name] == 0:
            donor = max(SPLITS, key=lambda other: sizes[other])
            if sizes[donor] > 1:
                sizes[donor] -= 1
                sizes[name] += 1
    return sizes


def _draw(
    subjects: list[tuple[str, str]],
    known: dict[tuple[str, str], str],
    config: SplitConfig,
    where: str,
) -> dict[tuple[str, str], str]:
    open_subjects = [subject for subject in subjects if subject not in known]
    if not open_subjects:
        return {}
    given: dict[str, int] = {name: sum(known.get(s) == name for s in subjects) for name in SPLITS}
    room: dict[str, int] = {
        n: max(0, size - given[n]) for n, size in split_sizes(len(subjects), config).items()
    }
    while sum(room.values()) > len(open_subjects):
        room[max(SPLITS, key=lambda name: (room[name] + min(given[name], 1), room[name]))] -= 1
    rng = np.random.default_rng([config.seed, zlib.crc32(where.encode())])
    order = rng.permutation(len(open_subjects))
    names = [name for name in SPLITS for _ in range(room[name])]
    return {open_subjects[i]: name for i, name in zip(order, names, strict=True)}
