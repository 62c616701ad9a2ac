"""Freed memory is kept: a second array as large costs no new pages."""

import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import numpy as np
from twinvae.parallel import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        np.ones(6 * 2**20)  # 48 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc than glibc's")
def test_arrays_are_made_from_what_earlier_ones_left() -> None:
    def faults(how: str) -> int:
        command = [sys.executable, "-c", _FAULTS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < 0.1 * faults("leave")
