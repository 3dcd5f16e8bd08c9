"""What of the study determines a run whose weights somebody else published."""

from __future__ import annotations

from typing import Any

from scripts.study.study import Study


def published_science(study: Study, name: str) -> dict[str, Any]:
    """Key published.<run>, without the steps, which only choose files, and the model it must be."""
    run = study.run(name)
    assert run.published is not None
    return {
        **run.published.model_dump(exclude={"steps"}),
        "size": study.size_science(name),
        "precision": run.training.precision,
        "sequence_length": run.training.sequence_length,
    }
