"""What is checked beside a run's stages: scans by quality control, a configuration's contrast.

Flagged scans are a line in a log, loud where they are in two splits; scans trained on and tested
on are refused, and so are planted lesions and scores that contradict the contrast.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from rich.markup import escape

from twinvae.config import RunConfig
from twinvae.config.contrast import NEGATIVE, lesions_are_dark, planted_contrast
from twinvae.detection.seen import Seen
from twinvae.errors import ConfigError, DataError, some_of
from twinvae.files import write_table
from twinvae.imaging.quality import check_cohort, flag_counts, leaks, read_flags, tested_on_training
from twinvae.outputs import check_new_file
from twinvae.progress import console
from twinvae.scoring import SCORES
from twinvae.scoring.table import CONTEXT_SUFFIX

_LOCAL = "_local"


def check_scans(
    manifest: Path, out: Path | None, *, jobs: int | None = None, overwrite: bool = False
) -> pd.DataFrame:
    """Flags of a manifest's scans, written to ``out`` if given; nothing is prepared.

    Raises ``OutputError`` when ``out`` exists, unless ``overwrite``.
    """
    if out is not None:
        check_new_file(out, [manifest], overwrite=overwrite)
    table = check_cohort(manifest, jobs=jobs)
    if out is not None:
        write_table(out, table)
    say_leaks(table)
    return table


def say_flags(flags: pd.DataFrame, path: Path) -> None:
    """One line about flagged scans, if there are any, and loud ones about leaks."""
    say_leaks(flags)
    counts = flag_counts(flags)
    if counts:
        listed = ", ".join(f"{name} {count}" for name, count in counts.items())
        flagged = int((flags["flags"] != "").sum())
        console.print(
            f"{flagged} of {len(flags)} scans are flagged ({listed}): {path}", soft_wrap=True
        )


def say_leaks(flags: pd.DataFrame) -> None:
    """A line for each scan whose voxels are in another split too."""
    for line in leaks(flags)[:10]:
        console.print(f"[bold red]the same scan in two splits:[/] {escape(line)}", soft_wrap=True)


def refuse_leaks(path: Path, starts: Iterable[Path]) -> None:
    """Raise ``DataError`` when scans of the flags at ``path`` are both trained and tested on.

    ``starts``: folders of models with whose weights the run's began, and whose scans count too.
    Where nothing was flagged, as in a run pooled of others, which looked themselves, nothing is.
    """
    if not path.is_file():
        return
    flags = read_flags(path)
    found = tested_on_training(flags)
    for folder in dict.fromkeys(starts):
        seen = Seen.of_weights(folder)
        known = flags[(flags["split"] == "test") & flags["content"].map(seen.trained_on)]
        names = known["source"] + "/" + known["subject"]
        found += [f"{name} (test) is a scan that {folder} was trained on" for name in names]
    if found:
        raise DataError(
            f"{path}: expected test scans that no model was trained on, found {len(found)} with "
            f"the voxels of training scans; take them out of the manifest, or put both in one "
            f"split\n  " + some_of(found, 10, joint="\n  ")
        )


def require_contrast(config: RunConfig) -> None:
    """Raise ``ConfigError`` when lesions planted, or the score's sign, are not the contrast's.

    Unless the configuration says ``against_contrast``. Nothing is asked of contrasts in which
    tumours may be of either kind, of ``any`` lesions, and of scores without a sign.
    """
    dark = lesions_are_dark(config.contrast)
    if config.against_contrast or dark is None:
        return
    planted = planted_contrast(config.contrast)
    said = {
        "scoring.planted": config.scoring.planted,
        "models.healthy.options.contrast": config.models.healthy.options.get("contrast"),
        "models.mixed.options.contrast": config.models.mixed.options.get("contrast"),
    }
    for name, found in said.items():
        if found in ("T2w", "FLAIR", "T1w") and lesions_are_dark(found) != dark:
            raise ConfigError(_against(name, f"{planted}, any or auto", config.contrast, found))
    score = config.decision.score
    other = opposite_score(score)
    if other is not None and (NEGATIVE in score) != dark:
        raise ConfigError(_against("decision.score", other, config.contrast, score))


def opposite_score(name: str) -> str | None:
    """The score that sees dark where ``name`` sees bright, or the other way round; None if none.

    >>> opposite_score("residual_local"), opposite_score("image_l2")
    ('residual_negative_local', None)
    """
    if NEGATIVE in name:
        return name.replace(NEGATIVE, "", 1)
    stem = name.removesuffix(CONTEXT_SUFFIX)
    place = len(stem.removesuffix(_LOCAL))
    other = stem[:place] + NEGATIVE + stem[place:]
    return other + name[len(stem) :] if other in SCORES else None


def _against(name: str, expected: str, contrast: str, found: str) -> str:
    kind = "dark" if lesions_are_dark(contrast) else "bright"
    return (
        f"{name}: expected {expected} with contrast {contrast}, in which tumours are {kind}, found "
        f"{found}; for an ablation say against_contrast: true"
    )
