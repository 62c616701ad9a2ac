"""Quality control: what may be wrong with a scan, said to people; nothing is dropped for it."""

from twinvae.imaging.quality.flags import FLAGS, flag_counts, flag_scans, leaks, read_flags
from twinvae.imaging.quality.look import Look

__all__ = ["FLAGS", "Look", "flag_counts", "flag_scans", "leaks", "read_flags"]
