"""Empty files in the right places: the cohort only looks at names."""

from pathlib import Path

import pytest


@pytest.fixture
def touch(tmp_path):
    def make(*names: str) -> list[Path]:
        paths = [tmp_path / name for name in names]
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return paths

    return make
