"""BraTS 2023 and later: gliomas (GLI), metastases (MET), meningiomas (MEN), children (PED), SSA.

The tree it expects::

    ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/
      BraTS-GLI-00000-000/
        BraTS-GLI-00000-000-t2w.nii.gz      also -t1n, -t1c, -t2f (FLAIR) and the truth, -seg
      BraTS-GLI-00000-001/ …                the same patient's next visit

Subject: `BraTS-GLI-00000`; session: the visit, `000`. Skull-stripped: no brain mask. Sources: the
challenge's pages on synapse.org, trees quoted in public code, and the files themselves.
"""

from twinvae.cohort.layouts.files import NIFTI
from twinvae.cohort.layouts.naming import Naming

_NAMING = Naming(
    r"(?P<subject>brats-[a-z]+-\d+)-(?P<session>\d+)-(?P<kind>t1n|t1c|t2w|t2f|seg)" + NIFTI
)

recognises = _NAMING.recognises
find = _NAMING.find
