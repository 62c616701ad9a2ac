"""Figures and pages that people read. Import what you need, late: all of it brings matplotlib.

``report``: a run's page and figures; ``scan_page``: the page of one new scan, which needs no
evaluation; ``contact_sheets``: every scan at a glance; ``study_figure``: many models on one map.
"""
