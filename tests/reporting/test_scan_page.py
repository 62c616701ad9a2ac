"""A scan's page says what was found and why, and is written without the evaluation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from html_pages import parsed

from twinvae.decision import ScanVerdict
from twinvae.reporting.scan_page import (
    ScanMaterial,
    figure_montage,
    figure_slice_scores,
    highest_slices,
    scan_html,
    write_scan_page,
)


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
    page = parsed(scan_html(scan(abnormal=True)))
    assert "scan <1>.nii.gz" in page.text
    assert "3 of 8 slices reach the threshold" in page.text
    assert "7, reaches the threshold for scans, 6: the 90th percentile" in page.text
    assert "Outside the domain." in page.text
    assert len(page.addresses) == 2
    well = parsed(scan_html(scan(abnormal=False)))
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
        scan_html(ScanMaterial(**{**vars(good), "images": good.images[:7]}))


def test_detect_needs_no_evaluation_for_its_page() -> None:
    code = "import sys, twinvae.reporting.scan_page; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert "twinvae.reporting.style" in loaded
    unwanted = {"sklearn", "twinvae.evaluation", "twinvae.reporting.report", "matplotlib.pyplot"}
    assert not loaded & unwanted
