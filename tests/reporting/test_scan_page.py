"""A scan's page says what was found and why, and is written without the evaluation."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from html_pages import parsed
from scan_material import lesions, scan, verdict

from twinvae.decision.domain import Outside
from twinvae.reporting.judged import distinct_slices
from twinvae.reporting.scan_page import scan_html, write_scan_page, write_thumbnail

OUTSIDE = [
    Outside(f"intensity_p{p}", 0.9, 0.1, 0.3, 0.2, 12.0, None) for p in (25, 50, 75)
]  # fmt: skip


def test_scan_page_says_what_was_found_and_why(tmp_path: Path) -> None:
    page = parsed(scan_html(scan()))
    assert "scan <1>.nii.gz" in page.text
    assert "3 of 8 slices reach the threshold" in page.text
    assert "rests on one number, the highest slice score" in page.text
    assert "7 reaches the threshold for scans, 6, the 90th percentile" in page.text
    assert "Moved thresholds." in page.text
    assert "what is <too> bright" in page.text
    assert len(page.addresses) == 3 * 6
    well = parsed(scan_html(scan(abnormal=False)))
    assert "No abnormality found" in well.text
    assert "7 stays below the threshold for scans, 99" in well.text
    assert "Some slices of healthy scans do so too." in well.text
    one = scan(count=1, stands_out=dataclasses.replace(scan(count=1).stands_out, exact=False))
    write_scan_page(one, tmp_path / "one.html")
    assert "the score itself has no map" in parsed((tmp_path / "one.html").read_text()).text


def test_the_page_draws_the_threshold_that_the_verdict_rests_on() -> None:
    page = scan_html(scan())
    assert "threshold for scans, 6: the verdict rests on it" in page
    assert "d*, threshold for single slices: the verdict does not rest on it" in page
    mean = scan_html(scan(verdict=verdict(True, statistic="top_mean")))
    assert "for the mean of the highest scores" in mean
    run = scan_html(scan(verdict=verdict(True, statistic="longest_run", threshold=2.0)))
    assert "the longest run of neighbouring abnormal slices" in run
    assert 'class="scan-line"' not in run
    assert "cannot be drawn beside the slices" in run
    assert run.count('class="gauge"') == 1


def test_a_scan_out_of_domain_is_said_to_be_so_once() -> None:
    unjudged = scan().slices.assign(abnormal=pd.array([pd.NA] * 8, dtype="boolean"))
    page = parsed(scan_html(scan(verdict=None, slices=unjudged, outside=OUTSIDE)))
    said = "in intensity_p25, intensity_p50, intensity_p75: so no verdict is given."
    assert page.text.count(said) == 1
    assert page.text.count("Unlike the healthy scans") == 1
    assert all(str(one) in page.text for one in OUTSIDE)
    assert "none holds for it" in page.text
    assert "reach the threshold for single slices" not in page.text
    forced = parsed(scan_html(scan(outside=OUTSIDE)))
    assert "the verdict was forced: its error rates do not hold" in forced.text


def test_without_anything_that_stands_out_the_page_says_so() -> None:
    nothing = dataclasses.replace(scan().stands_out, lesions=lesions().head(0), peaks=[])
    assert "no place reaches the threshold" in scan_html(scan(stands_out=nothing))
    many = pd.concat([lesions()] * 15, ignore_index=True)
    listed = dataclasses.replace(scan().stands_out, lesions=many, peaks=[(17, 22, 14)] * 15)
    page = scan_html(scan(stands_out=listed))
    assert page.count("data-go=") == 12
    assert "3 more, lower ones are in lesions.tsv" in page


def test_slices_shown_are_the_highest_of_places_of_their_own() -> None:
    position = np.linspace(0, 1, 101)
    score = np.exp(-(((position - 0.3) / 0.05) ** 2)) + 0.5 * np.exp(
        -(((position - 0.8) / 0.05) ** 2)
    )
    table = pd.DataFrame({"score": score + 1e-6 * position, "position": position})
    assert distinct_slices(table).tolist() == [30, 80]  # not six neighbours of slice 30
    assert distinct_slices(table, 1).tolist() == [30]
    flat = pd.DataFrame({"score": np.zeros(101), "position": position})
    assert distinct_slices(flat).tolist() == [0]


def test_thumbnail_is_of_the_highest_slice(tmp_path: Path) -> None:
    from matplotlib.image import imread

    material = scan()
    quiet = dataclasses.replace(material.stands_out, relative=np.zeros((8, 12, 12)))
    write_thumbnail(dataclasses.replace(material, stands_out=quiet), tmp_path / "small.png")
    found = imread(tmp_path / "small.png")[..., 0]
    np.testing.assert_allclose(found, material.images[7], atol=1 / 255)


def test_scan_page_refuses_what_does_not_fit_together() -> None:
    with pytest.raises(ValueError, match="found 8, 7, 8, 8"):
        scan_html(scan(images=scan().images[:7]))


def test_detect_needs_no_evaluation_for_its_page() -> None:
    code = (
        "import sys, twinvae.reporting.scan_page, twinvae.reporting.patient_page\n"
        "print(*sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert "twinvae.reporting.view" in loaded
    unwanted = {"sklearn", "twinvae.evaluation", "twinvae.reporting.report", "matplotlib"}
    assert not loaded & unwanted
