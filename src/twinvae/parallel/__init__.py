"""Where pieces of work run, and on how many cores."""

from twinvae.parallel.pool import DIED, Execute, cores, end_with_parent, share_cores, ways

__all__ = ["DIED", "Execute", "cores", "end_with_parent", "share_cores", "ways"]
