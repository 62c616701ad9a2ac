"""Speed and memory against others, and against size: every part, one page, one figure.

    python benchmarks/bench [--only training,detect] [--quick] [--fresh] [--rivals-python PATH]

A part is a script beside this folder that writes its figures as JSON; its outcome is kept in
``--out`` and not measured again while it is younger than the code and of the same arguments. After
each part the page is written anew: docs/performance.md and docs/images/scaling.png, or, of a quick
run, performance.md and scaling.png beside its figures. ``--page`` measures nothing. The exit code
is 1 when a part failed; a missed aim is a result.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measuring import line_of
from page import page
from parts import PARTS, Outcome, chosen, kept, measure, read

DOCS = Path(__file__).resolve().parents[2] / "docs"


def write_page(folder: Path, *, quick: bool) -> Path:
    """The page and the figure of all outcomes in ``folder``; returns the page's path."""
    found = {part.name: folder / f"{part.name}.json" for part in PARTS}
    outcomes = {name: read(path) for name, path in found.items() if path.is_file()}
    image = "scaling.png" if quick else "images/scaling.png"
    out = folder if quick else DOCS
    points = outcomes.get("scaling", {}).get("points", [])
    if points:
        from figure import scaling_figure

        from twinvae.reporting.style import as_png

        (out / image).write_bytes(as_png(scaling_figure(points)))
    text = page(PARTS, outcomes, image if points else None, quick=quick)
    (out / "performance.md").write_text(text, encoding="utf-8")
    return out / "performance.md"


def tell(outcome: Outcome) -> None:
    """Print what a part found."""
    if outcome["failed"]:
        print(f"  FAILED: {outcome['failed']}")
    for one in outcome["rows"]:
        print(f"  {line_of(one)}")
    for reason in outcome["left_out"]:
        print(f"  left out: {reason}")


def main() -> int:
    """Do the parts that are to be done; write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [part.name for part in PARTS]
    parser.add_argument("--only", default="", help=f"of {','.join(names)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a first look")
    parser.add_argument("--fresh", action="store_true", help="measure kept parts again")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    parser.add_argument("--rivals-python", help="an interpreter that has twinvae and the rivals")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"))
    given = parser.parse_args()
    only = [name for name in given.only.split(",") if name]
    if unknown := set(only) - set(names):
        parser.error(f"--only: expected some of {','.join(names)}, found {','.join(unknown)}")
    folder = (given.out / ("quick" if given.quick else "full")).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    how = {"quick": given.quick, "rivals_python": given.rivals_python}
    failed = False
    for part in chosen(only) if not given.page else []:
        path = folder / f"{part.name}.json"
        if not given.fresh and kept(part, path, **how):
            print(f"{part.title}: kept", flush=True)
            continue
        print(f"{part.title} …", flush=True)
        outcome = measure(part, path, **how)
        tell(outcome)
        failed |= bool(outcome["failed"])
        write_page(folder, quick=given.quick)
    print(f"page: {write_page(folder, quick=given.quick)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
