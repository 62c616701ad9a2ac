from __future__ import annotations

import pandas as pd
import pytest
from simulated import simulated_scores


@pytest.fixture(scope="session")
def table() -> pd.DataFrame:
    return simulated_scores()
