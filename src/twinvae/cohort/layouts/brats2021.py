"""BraTS 2021 (RSNA-ASNR-MICCAI): one folder a patient.

The tree it expects::

    BraTS2021_Training_Data/
      BraTS2021_00006/
        BraTS2021_00006_t2.nii.gz      also _t1, _t1ce, _flair and the truth, _seg

Subject: `BraTS2021_00006`; one visit each. Skull-stripped: no brain mask. Source: Baid et al.,
arXiv 2107.02314, and the files themselves.
"""

from twinvae.cohort.layouts.files import NIFTI
from twinvae.cohort.layouts.naming import Naming

_NAMING = Naming(r"(?P<subject>brats2021_\d+)_(?P<kind>t1|t1ce|t2|flair|seg)" + NIFTI)

recognises = _NAMING.recognises
find = _NAMING.find
