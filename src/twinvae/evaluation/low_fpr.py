"""What a score finds while hardly calling a tumour-free slice: the left end of the ROC curve.

``sensitivity_at_specificity_95`` (and ``_99``): the highest sensitivity of any threshold whose
specificity is at least that; no interpolation, so that a threshold with it exists.
``partial_auroc``: the area under the ROC curve up to a false-positive rate of ``MAX_FPR``,
standardised so that chance is 0.5 and perfection 1 (McClish, "Analyzing a portion of the ROC
curve", Medical Decision Making 9 (1989)), as scikit-learn's ``roc_auc_score(max_fpr=…)`` gives it.
"""

from __future__ import annotations

from twinvae.evaluation.resampling import FloatArray, ratio
from twinvae.evaluation.sweep import MAX_FPR, SPECIFICITIES, Swept

LOW_FPR_METRICS = (
    "partial_auroc",
    *(f"sensitivity_at_specificity_{percent}" for percent in SPECIFICITIES),
)
"""In the order of ``metrics.tsv``."""


def low_fpr_metrics(swept: Swept) -> dict[str, FloatArray]:
    """Each of ``LOW_FPR_METRICS`` in each resample; NaN where a class is missing."""
    pairs = swept.positives * swept.negatives
    area, least = ratio(swept.area, pairs), MAX_FPR**2 / 2
    partial = (1 + (area - least) / (MAX_FPR - least)) / 2
    found = (ratio(count * swept.negatives, pairs) for count in swept.found)
    return dict(zip(LOW_FPR_METRICS, (partial, *found), strict=True))
