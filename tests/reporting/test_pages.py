"""Figures show the numbers they are given; pages are complete, escaped and self-contained."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from twinvae.decision import ScanVerdict
from twinvae.reporting.gallery import Gallery, captions, choose_slices, figure_gallery
from twinvae.reporting.report import ReportMaterial, report_figures, write_report
from twinvae.reporting.report_tables import ordered_scores, table1
from twinvae.reporting.run_figures import (
    figure_area,
    figure_histograms,
    figure_training,
    slice_groups,
)
from twinvae.reporting.scan_page import (
    ScanMaterial,
    figure_montage,
    figure_slice_scores,
    highest_slices,
    scan_page,
    write_scan_page,
)
from twinvae.reporting.style import as_png, as_svg, residual_limit, save_figure


class _Page(HTMLParser):
    """Collects addresses, checks that tags are closed."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href")]
        if tag not in ("meta", "img", "br", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(page: str) -> _Page:
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert all(address.startswith(("data:image/", "#")) for address in parser.addresses)
    anchors = {address[1:] for address in parser.addresses if address.startswith("#")}
    assert anchors <= set(re.findall(r'id="(\w+)"', page))
    parser.addresses = [address for address in parser.addresses if address[0] != "#"]
    assert "Not for clinical use" in parser.text
    assert not re.search(r"@import|url\(", page)
    return parser


def material(fake: Any, **values: Any) -> ReportMaterial:
    return ReportMaterial(
        {"name": "fake", "about": "A <b>bold</b> claim"},
        fake.scores,
        fake.calibration,
        fake.metrics,
        fake.audit,
        **values,
    )


FIGURES = {"roc", "area", "strata", "figure1", "figure4", "false_positive_rates"}
"""Those of every report, a table's as well as a run's."""
LOG = [{"epoch": e, "elbo": -(9.0**-e), "val_elbo": None, "kl": 1.0 * e} for e in range(1, 31)]


def test_report_is_one_page_with_everything_inside(
    fake: Any, gallery: Gallery, tmp_path: Path
) -> None:
    full = material(
        fake,
        logs={"VAE-H": LOG},
        mixed=gallery,
        healthy=Gallery(gallery.images, gallery.reconstructions, gallery.captions),
        false_positives=dataclasses.replace(gallery, maps=gallery.images, map_name="residual"),
        false_negatives=gallery,
        made={"Seed": 7},
        skipped=[("sub-x", "truncated <file>")],
    )
    path = write_report(full, tmp_path)
    page = parsed(path.read_text(encoding="utf-8"))
    assert len(page.addresses) == len(FIGURES) + 5
    assert "Local residual sees tumours, and does so better than any trivial rival" in page.text
    assert "beats the best trivial rival, raw, matched and adjusted" in page.text
    assert "wrongly call" in page.text
    assert all(warning in page.text for warning in fake.audit["warnings"])
    assert "Chosen after the fact" in page.text
    assert "A <b>bold</b> claim" in page.text  # escaped, not bold
    assert "truncated <file>" in page.text
    names = FIGURES | {"figure2", "figure3", "training", "false_positives", "false_negatives"}
    expected = {f"{name}.{kind}" for name in names for kind in ("png", "svg")} | {"table1.tsv"}
    assert {file.name for file in (tmp_path / "figures").glob("[!.]*")} == expected
    assert Image.open(tmp_path / "figures" / "figure1.png").size[0] > 1000


def test_the_page_gives_tumour_sizes_in_mm2_beside_pixels(fake: Any, tmp_path: Path) -> None:
    page = write_report(material(fake), tmp_path).read_text(encoding="utf-8")
    text = parsed(page).text
    assert "more than 50 tumour pixels (50 px = 200 mm²)" in text
    assert "Brain areas are compared in mm²." in text
    assert "<th>0 mm²</th><th>200 mm²</th><th>400 mm²</th>" in page  # k of 0, 50 and 100 pixels
    assert "tumour 400–1000 mm²" in text
    for pixel, says, unit in (([0.25, 4.0], "50 px = 12 to 200 mm² by the scan's grid", "mm²"),
                              (None, "more than 50 tumour pixels. ", "pixels")):  # fmt: skip
        support = {**fake.audit["support"], "pixel_mm2": pixel}
        other = material(dataclasses.replace(fake, audit={**fake.audit, "support": support}))
        text = parsed(write_report(other, tmp_path).read_text(encoding="utf-8")).text
        assert says in text
        assert f"Brain areas are compared in {unit}." in text
    del support["pixel_mm2"]  # an audit that an earlier version wrote
    assert "in pixels." in write_report(other, tmp_path).read_text(encoding="utf-8")


def test_report_twice_gives_the_same_bytes(fake: Any, tmp_path: Path) -> None:
    small = material(fake)
    first = write_report(small, tmp_path / "a")
    second = write_report(small, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    write_report(small, tmp_path / "a")  # over what is there
    names = [file.name for file in (tmp_path / "a").iterdir()]
    assert sorted(names) == ["figures", "report.html"]


def test_figures_are_those_there_is_material_for(fake: Any) -> None:
    assert set(report_figures(material(fake))) == FIGURES
    thin = material(fake)
    without = fake.scores.drop(columns=["image_l2", "healthy_mean_norm"])
    assert "figure4" not in report_figures(ReportMaterial(**{**vars(thin), "scores": without}))


def test_histograms_hold_every_slice_and_draw_the_threshold(fake: Any) -> None:
    figure = figure_histograms(fake.scores, ["residual_local"], fake.calibration, 50)
    axes = figure.axes[0]
    stairs = [patch for patch in axes.patches if isinstance(patch, mpl.patches.StepPatch)]
    assert len(stairs) == 6
    for patch in stairs:
        assert patch.get_data().values.sum() == pytest.approx(100)
    bound = fake.calibration["scores"]["residual_local"]["slice"]["thresholds"][0]["threshold"]
    assert [line.get_xdata()[0] for line in axes.lines] == [bound]
    groups = slice_groups(fake.scores, 50)
    assert (
        sum(int(mask.sum()) for mask in groups.values()) == (fake.scores["split"] == "test").sum()
    )


def test_figures_say_so_when_there_is_nothing_to_draw(fake: Any) -> None:
    empty = Gallery(np.empty((0, 4, 4)), np.empty((0, 4, 4)), [])
    figures = [
        figure_area(fake.scores.assign(split="val"), "latent_l2", fake.calibration, 50),
        figure_histograms(fake.scores, [], fake.calibration, 50),
        figure_histograms(fake.scores.assign(split="val"), ["latent_l2"], fake.calibration, 50),
        figure_gallery(empty),
        figure_training({"VAE": []}),
    ]
    for figure in figures:
        assert any(text.get_text() for axes in figure.axes for text in axes.texts)
        assert as_png(figure).startswith(b"\x89PNG")
    assert residual_limit(np.empty(0)) == 0.05


def test_training_curves_are_the_logs(fake: Any) -> None:
    figure = figure_training({"VAE-H": LOG, "VAE": [{"epoch": 1, "elbo": 1.0, "kl": 2.0}]})
    elbo = figure.axes[0].lines[0]
    np.testing.assert_array_equal(elbo.get_xdata(), np.arange(1, 31))
    np.testing.assert_allclose(elbo.get_ydata(), [row["elbo"] for row in LOG])
    assert len(figure.axes[0].lines) == 1  # no validation curve without validation
    assert figure.axes[1].lines[0].get_marker() == "o"  # a single epoch is seen


def test_gallery_draws_slices_residuals_and_outlines(gallery: Gallery) -> None:
    figure = figure_gallery(gallery)
    residual = figure.axes[2 * 3].images[0]
    np.testing.assert_allclose(residual.get_array(), gallery.images[0] - gallery.reconstructions[0])
    low, high = residual.get_clim()
    assert low == -high < 0
    assert [bool(axes.collections) for axes in figure.axes[9:12]] == [True, False, False]


def test_gallery_shows_a_map_instead_of_the_residual(gallery: Gallery) -> None:
    maps = np.arange(3 * 16 * 16, dtype=float).reshape(3, 16, 16)
    figure = figure_gallery(dataclasses.replace(gallery, maps=maps, map_name="features"))
    shown = figure.axes[2 * 3 + 1].images[0]
    np.testing.assert_array_equal(shown.get_array(), maps[1])
    assert shown.get_clim()[0] == 0
    assert figure.axes[2 * 3].get_ylabel() == "map\nfeatures"


def test_figures_leave_no_global_state(fake: Any, gallery: Gallery, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure = figure_gallery(gallery)
    save_figure(figure, tmp_path / "deep", "name")
    assert dict(mpl.rcParams) == before
    assert as_svg(figure) == (tmp_path / "deep" / "name.svg").read_bytes()  # layout is settled
    code = "import sys, twinvae.reporting; print('matplotlib.pyplot' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_table1_holds_the_metrics(fake: Any) -> None:
    table = table1(fake.metrics, "residual_local")
    assert len(table) == 6 * 3
    assert table["score"].iloc[0] == "residual_local"
    row = table[(table["score"] == "image_l2") & (table["min_tumour_px"] == 100)].iloc[0]
    slices = fake.metrics[fake.metrics["level"] == "slice"]
    for metric in ("accuracy", "f1", "auroc", "auroc_matched", "auroc_adjusted"):
        one = slices.query(f"score == 'image_l2' and min_tumour_px == 100 and metric == '{metric}'")
        assert row[metric] == one["value"].iloc[0]
        assert row[f"{metric}_ci_high"] == one["ci_high"].iloc[0]
    assert ordered_scores(["trivial_a", "b", "latent_l2", "c"], "c") == [
        "c",
        "latent_l2",
        "b",
        "trivial_a",
    ]


def scan(abnormal: bool, count: int = 8) -> ScanMaterial:
    rng = np.random.default_rng(2)
    score = np.arange(count, dtype=float)
    table = pd.DataFrame(
        {
            "slice": np.arange(count)[::-1] + 20,
            "position": np.linspace(0, 1, count),
            "score": score,
            "threshold": 5.0,
            "abnormal": score >= (5 if abnormal else 99),
        }
    )
    return ScanMaterial(
        name="scan <1>.nii.gz",
        verdict=ScanVerdict(
            abnormal=abnormal,
            statistic="max",
            value=count - 1.0,
            threshold=6.0 if abnormal else 99.0,
            p_value=0.05,
            highest=count - 1.0,
            percentile=90.0,
            target_fpr=0.1,
        ),
        slices=table,
        score="residual_local",
        images=rng.random((count, 12, 12)),
        reconstructions=rng.random((count, 12, 12)),
        made={"Bundle": "demo"},
        warnings=["Outside the domain."],
    )


def test_scan_page_says_what_was_found_and_why(tmp_path: Path) -> None:
    page = parsed(scan_page(scan(abnormal=True)))
    assert "scan <1>.nii.gz" in page.text
    assert "3 of 8 slices reach the threshold" in page.text
    assert "7, reaches the threshold for scans, 6: the 90th percentile" in page.text
    assert "Outside the domain." in page.text
    assert len(page.addresses) == 2
    well = parsed(scan_page(scan(abnormal=False)))
    assert "No abnormality found" in well.text
    assert "stays below the threshold for scans, 99" in well.text
    write_scan_page(scan(abnormal=False, count=1), tmp_path / "one.html")
    parsed((tmp_path / "one.html").read_text(encoding="utf-8"))


def test_scan_figures_show_the_highest_slices() -> None:
    assert highest_slices(np.array([1.0, 5.0, 3.0]), 2).tolist() == [1, 2]
    figure = figure_montage(scan(abnormal=True))
    titles = [axes.get_title(loc="center") for axes in figure.axes[:6]]
    assert titles[0] == "slice 20\nscore 7 *"
    assert titles[5] == "slice 25\nscore 2"
    curve = figure_slice_scores(scan(abnormal=True)).axes[0].lines[0]
    assert curve.get_xdata().tolist() == list(range(20, 28))
    assert curve.get_ydata().tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_scan_page_refuses_what_does_not_fit_together() -> None:
    good = scan(abnormal=True)
    with pytest.raises(ValueError, match="found 8, 7, 8"):
        scan_page(ScanMaterial(**{**vars(good), "images": good.images[:7]}))


def test_slices_are_chosen_by_a_rule_that_sees_no_score(fake: Any) -> None:
    rows = choose_slices(fake.scores, "mixed", 50, count=4)
    chosen = fake.scores.iloc[rows]
    assert len(set(chosen["subject"])) == 4
    assert (chosen["tumour_px"] == 300).all()  # the largest of each simulated tumour
    shuffled = fake.scores.assign(residual_local=0.0)
    assert np.array_equal(rows, choose_slices(shuffled, "mixed", 50, count=4))
    healthy = fake.scores.iloc[choose_slices(fake.scores, "healthy", 50)]
    assert len(healthy) == 8
    assert set(healthy["split"]) == {"test"}
    assert (healthy["brain_px"] == 4000).all()
    assert len(choose_slices(fake.scores, "mixed", 10**6)) == 0
    assert captions(fake.scores, rows[:1], "latent_l2")[0].startswith("s1\nslice 12\nscore ")
