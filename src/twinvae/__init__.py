"""twinvae: find tumours in brain MRI without tumour labels. Not for clinical use."""

from __future__ import annotations

import os

# Two busy threads beside another busy process spin in OpenMP's barrier and run 3-16 times
# slower; waiting passively costs nothing otherwise. It must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"
