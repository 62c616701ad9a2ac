"""Figures and pages that people read. Import it late: it brings matplotlib."""

from twinvae.reporting.choose import captions, choose_slices, worst_captions, worst_slices
from twinvae.reporting.flags import FlagSummary, summarise_flags
from twinvae.reporting.gallery import Gallery
from twinvae.reporting.report import ReportMaterial, report_figures, write_report
from twinvae.reporting.scan_page import ScanMaterial, scan_page, write_scan_page
from twinvae.reporting.study_figure import study_figure
from twinvae.reporting.style import save_figure

__all__ = [
    "FlagSummary",
    "Gallery",
    "ReportMaterial",
    "ScanMaterial",
    "captions",
    "choose_slices",
    "report_figures",
    "save_figure",
    "scan_page",
    "study_figure",
    "summarise_flags",
    "worst_captions",
    "worst_slices",
    "write_report",
    "write_scan_page",
]
