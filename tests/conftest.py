"""What all tests share: processes that start at once (tests/forks.py), and the order of their files."""

from __future__ import annotations

import pytest

from tests import forks


def pytest_configure(config: pytest.Config) -> None:
    """One server for all workers of pytest-xdist, which inherit this process's environment."""
    if not hasattr(config, "workerinput"):
        config.add_cleanup(forks.start())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole workflows first: pytest-xdist hands out files in this order, and short ones even out the end."""
    items.sort(key=lambda item: "workflow" not in item.path.parts)
