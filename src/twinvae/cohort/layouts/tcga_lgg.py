"""TCGA-LGG, low-grade gliomas: the segmentation set of Buda et al. 2019 as NIfTI volumes.

The tree it expects::

    lgg/
      TCGA_CS_6290_20000917/
        TCGA_CS_6290_20000917_flair.nii.gz
        TCGA_CS_6290_20000917_seg.nii.gz       the truth; `_mask` is read too

The set is published as one TIFF a slice under the same names
(`TCGA_CS_6290_20000917_1.tif`, `…_1_mask.tif`); stack them into volumes first. Subject: the TCGA
patient, `TCGA_CS_6290`; session: the date, `20000917`. The scans show skulls. Source: Buda et al.,
Computers in Biology and Medicine 2019; the Cancer Imaging Archive, TCGA-LGG.
"""

from twinvae.cohort.layouts.files import NIFTI
from twinvae.cohort.layouts.naming import Naming

_NAMING = Naming(
    r"(?P<subject>TCGA_\w{2}_\w{4})_(?P<session>\d{8})"
    r"_(?P<kind>flair|t1|t1w|t1gd|t1ce|t2|t2w|seg|mask)" + NIFTI,
    tumour=("seg", "mask"),
)

recognises = _NAMING.recognises
find = _NAMING.find
