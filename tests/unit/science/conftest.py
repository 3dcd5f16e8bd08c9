"""Published tables that analyses are held against; they are not part of the project."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from scripts.common.environment import ROOT

TABLES = ROOT.parent / "shared/data/published"


@pytest.fixture
def published() -> Callable[[str], pd.DataFrame]:
    """A published table by its file's name; skips where the tables are not at hand."""

    def read(name: str) -> pd.DataFrame:
        if not (path := TABLES / name).exists():
            pytest.skip(f"the published table {name} is not at hand")
        return pd.read_csv(path, sep="\t" if name.endswith(".tsv") else ",")

    return read
