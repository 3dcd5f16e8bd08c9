"""The page on memorization, results/memorization.html: findings, figures, and the memorized strings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.report.pages.drawn import figure, finding, science_table
from scripts.report.pages.environment import rendered
from scripts.study.study import Study

PAGE = Path(__file__).with_name("memorization.html")
FIGURES = ("memorization_step", "memorization_size", "memorization_canaries", "memorization_groups",
           "memorization_predict", "memorization_correlation", "memorization_histogram", "memorization_order",
           "memorization_seen")  # fmt: skip
ABOUT = {
    "memorization_grows_with_size",
    "memorization_grows_in_training",
    "unseen_sequences",
    "repeated_text_is_memorized_more",
    "deduplication_reduces_memorization",
    "canaries",
    "small_predicts_large",
    "early_predicts_final",
    "training_order_is_poisson",
    "memorization_scaling",
}
STRINGS = "memorized_text"  # the table of the science that holds them


def memorization_page(study: Study, found: list[dict[str, Any]]) -> str:
    """The page's HTML; raises UserError that names a missing input."""
    asked = study.file.memorization
    places = dict.fromkeys(FIGURES, "")
    return rendered(
        PAGE,
        study=study.file.study,
        lead=(
            f"A sequence is memorized if its first {asked.prompt} tokens, continued greedily, give its next "
            f"{asked.continuation} tokens. Fractions are of sequences that a checkpoint has seen."
        ),
        findings=[finding(each, places) for each in found if each["id"] in ABOUT],
        figures=[figure(name) for name in FIGURES],
        strings=science_table(STRINGS),
    )
