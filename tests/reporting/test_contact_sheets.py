"""Contact sheets: a page shows every scan, those that could not be prepared too."""

import io

import numpy as np
import pandas as pd
from matplotlib.image import imread

from twinvae.imaging import Block, SliceStore
from twinvae.reporting import contact_sheets
from twinvae.reporting.contact_sheets import summarise_flags


def a_store(folder, subjects, size=32):
    rows, images = [], []
    for number, subject in enumerate(subjects):
        for z in range(6):
            rows.append({"subject": subject, "session": "", "source": "a b", "role": "mixed",
                         "split": "train", "slice": z, "position": z / 5, "brain_px": 100,
                         "tumour_px": 0, "spacing_mm": 1.0, "pixel_mm": 2.0})  # fmt: skip
            images.append(np.full((size, size), 1000 * number + z))
    index = pd.DataFrame(rows)
    index["tumour_px"] = index["tumour_px"].astype("Int64")
    brain = np.zeros((len(rows), size, size), np.uint8)
    brain[:, 8:24, 8:24] = 1
    tumour = np.zeros_like(brain)
    tumour[:6, 12:15, 12:15] = 1
    block = Block(np.array(images, np.uint16), brain, tumour, index)
    return SliceStore.write(folder, [block], slices=len(rows), size=size)


def flags_of(subjects, **why):
    return pd.DataFrame(
        [{"subject": s, "session": "", "source": "a b", "split": "train",
          "flags": "clipped" if s in why else "", "why": why.get(s, "")} for s in subjects]
    )  # fmt: skip


def test_sheets_are_paginated_and_the_same_every_time(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheets, "PER_PAGE", 2)
    subjects = ["s1", "s2", "s3"]
    store = a_store(tmp_path / "store", subjects)
    flags = flags_of([*subjects, "broken"], s2="many voxels at the top")
    paths = contact_sheets.write_contact_sheets(store, flags, tmp_path / "qc")
    assert [p.name for p in paths] == ["a_b.png", "a_b-2.png"]
    before = [p.read_bytes() for p in paths]
    contact_sheets.write_contact_sheets(store, flags, tmp_path / "qc")
    assert [p.read_bytes() for p in paths] == before
    assert sorted(p.name for p in (tmp_path / "qc").glob("[!.]*")) == ["a_b-2.png", "a_b.png"]


def test_a_tile_shows_outlines_and_a_flag_in_red(tmp_path):
    store = a_store(tmp_path / "store", ["s1", "s2"])
    flags = flags_of(["s1", "s2"], s2="odd")
    path = contact_sheets.write_contact_sheets(store, flags, tmp_path / "qc")[0]
    pixels = np.rint(imread(io.BytesIO(path.read_bytes()))[..., :3] * 255).astype(int)
    red = (pixels == [0xD5, 0x5E, 0x00]).all(-1)
    blue = (pixels == [0x56, 0xB4, 0xE9]).all(-1)
    zoom, slices = 4, len(contact_sheets.POSITIONS)
    side = 16 * zoom
    assert blue.sum() == 2 * slices * (4 * side - 4)
    strip = 32 * zoom * slices + 10
    small = 3 * zoom
    assert red[:, :strip].sum() == slices * (4 * small - 4)  # s1: a tumour, no flag
    assert red[:, strip:].sum() > 0  # s2: a flag, no tumour


def test_flags_are_summed_up_for_the_report():
    table = flags_of([f"s{i}" for i in range(8)], **{f"s{i}": "x" for i in range(7)})
    table["duplicate_of"] = ""
    summary = summarise_flags(table)
    assert (summary.scans, summary.flagged, summary.leaks) == (8, 7, ())
    (line,) = summary.lines
    assert line[0] == "clipped"
    assert line[2:] == (7, "a b/s0, a b/s1, a b/s2, a b/s3, a b/s4 and 2 more")
