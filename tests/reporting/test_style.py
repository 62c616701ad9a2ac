"""Figures are drawn in one style, which leaves no trace."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import matplotlib as mpl

from twinvae.reporting.gallery import Gallery, figure_gallery
from twinvae.reporting.style import as_svg, save_figure


def test_figures_leave_no_global_state(gallery: Gallery, tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    figure = figure_gallery(gallery)
    save_figure(figure, tmp_path / "deep", "name")
    assert dict(mpl.rcParams) == before
    assert as_svg(figure) == (tmp_path / "deep" / "name.svg").read_bytes()  # layout is settled
    parts = ("report", "scan_page", "contact_sheets", "study_figure")
    imports = ", ".join(f"twinvae.reporting.{part}" for part in parts)
    code = f"import sys, {imports}; print('matplotlib.pyplot' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"
