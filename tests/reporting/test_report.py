"""A report is one page, complete, escaped and self-contained."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

from html_pages import parsed
from PIL import Image

from twinvae.reporting.gallery import Gallery
from twinvae.reporting.report import ReportMaterial, report_figures, report_html, write_report
from twinvae.reporting.style import Picture

PICTURE = Picture(b"", b"<svg/>", 5.0)


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
    sees = "sees tumours, and does so better than any trivial rival"
    assert f"Difference from healthy version {sees}" in page.text
    assert "beats the best trivial rival, raw, matched and adjusted" in page.text
    assert "wrongly call" in page.text
    assert all(warning in page.text for warning in fake.audit["warnings"])
    assert "Chosen after the fact" in page.text
    assert "A <b>bold</b> claim" in page.text  # escaped, not bold
    assert "truncated <file>" in page.text
    names = FIGURES | {"figure2", "figure3", "training", "false_positives", "false_negatives"}
    expected = {f"{name}.{kind}" for name in names for kind in ("png", "svg")} | {"table1.tsv"}
    assert {file.name for file in (tmp_path / "figures").glob("[!.]*")} == expected
    with Image.open(tmp_path / "figures" / "figure1.png") as picture:
        assert picture.size[0] > 1000


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


def test_figure_4_is_described_as_what_it_is(fake: Any) -> None:
    both = material(fake)
    assert "Figure 4. The two statistics" in report_html(both, {"figure4": PICTURE})
    one = ReportMaterial(**{**vars(both), "scores": fake.scores.drop(columns="healthy_mean_norm")})
    said = report_html(one, {"figure4": PICTURE})
    assert "Figure 4. Total image difference, one of the two statistics that the paper" in said
    assert "healthy model alone" not in said


def test_slivers_of_tumour_are_reported_apart(fake: Any) -> None:
    assert "1 to 50 tumour pixels" not in report_html(material(fake), {})  # there are none
    found = copy.deepcopy(fake.audit)
    found["n"]["sliver_slices"] = 7
    rate = found["scores"]["residual_local"]["false_positive_rates"][0]
    rate["sliver"] = {"value": 0.4321, "ci_low": 0.3, "ci_high": 0.5}
    page = report_html(ReportMaterial(**{**vars(material(fake)), "audit": found}), {})
    assert "The 7 slices of 1 to 50 tumour pixels are no false alarms" in page
    said = (
        "Of the 7 slices of 1 to 50 tumour pixels, which count as neither here, 43.2 % are called"
    )
    assert said in page
    assert page.count("43.2 %") == 2  # also in the table of rates
