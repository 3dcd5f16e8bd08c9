"""Text for benchmarks: the smoke study's, which is quickly fetched."""

from __future__ import annotations

from typing import Any

from scripts.common.files import read_yaml
from tests.workflow.conftest import SMOKE


def smoke_text(characters: int = 600_000) -> dict[str, Any]:
    """Keys `components` and `corpora` of `data`: one corpus of so many characters per component, nothing planted."""
    data = read_yaml(SMOKE)["data"]
    kept = {name: text for name, text in data["components"].items() if not text.get("canaries")}
    standard = {**data["corpora"]["standard"], "components": list(kept)}
    return {
        "components": {name: {**text, "take_characters": characters} for name, text in kept.items()},
        "corpora": {"standard": standard},
    }
