"""What the columns hold of the tables that a BIDS derivative data set has of all its scans."""

from __future__ import annotations

from typing import Any

Columns = dict[str, dict[str, Any]]

_VERDICT = {
    "Description": "What is said of the scan. Research software, not for clinical use",
    "Levels": {
        "abnormal": "value reaches threshold",
        "healthy": "it does not: no abnormality found",
        "none: out of domain": "unlike the healthy scans behind the thresholds: nothing is said",
    },
}
_DECIDES: Columns = {
    "score": {"Description": "Name of the score that decides"},
    "statistic": {"Description": "How one number of the scan is made of its slices' scores"},
    "value": {"Description": "That number; larger = more abnormal"},
    "threshold": {"Description": "From which value on a scan is abnormal"},
    "p_value": {"Description": "Conformal p-value of the value among healthy scans"},
    "abnormal_slices": {"Description": "How many slices reach their own threshold"},
    "slices": {"Description": "How many slices were looked at"},
}
SCANS: Columns = {
    "filename": {"Description": "The healthy reconstruction of the scan"},
    "verdict": _VERDICT,
    **_DECIDES,
    "highest_slice": {"Description": "Number of the slice that scores highest (RAS, along z)"},
    "bundle": {"Description": "Which models and thresholds it rests on"},
}
SUMMARY_COLUMNS: Columns = {
    "name": {"Description": "What the results are called"},
    "scan": {"Description": "The scan that was given"},
    "scans": {"Description": "The scans that were given"},
    "verdict": _VERDICT,
    "contrasts": {"Description": "Contrasts that were judged together"},
    **_DECIDES,
    "highest": {"Description": "Number of the slice that scores highest (RAS, along z)"},
    "alone": {"Description": "What each contrast says alone"},
    "left_out": {"Description": "Contrasts that have no part in the verdict, and why"},
    "domain": {"Description": "Whether the scan is like the healthy scans behind the thresholds"},
    "outside": {"Description": "What puts it out of domain"},
    "thresholds_from": {"Description": "The scans that thresholds were set on"},
}
PARTICIPANTS: Columns = {
    "participant_id": {"Description": "Participant"},
    "results": {"Description": "How many verdicts were given or withheld: scans, or sessions"},
    "abnormal": {"Description": "How many of them are abnormal"},
    "healthy": {"Description": "How many found no abnormality; the rest are out of domain"},
}
