"""The first screen, and what stands beside a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.files import read_yaml, write_text
from scripts.report.findings.finding import Finding
from scripts.report.pages import drawn, opening
from scripts.study.study import parse


def test_the_first_sentences_are_headlines_then_what_did_not_come_out() -> None:
    facts = [Finding("fact", "A fact."), Finding("open", "?", expectation="Open.")]
    told = [Finding(f"yes-{number}", "Yes.", expectation=f"Expected {number}.", holds=True) for number in range(9)]
    told.append(Finding("measured", "Yes.", expectation="Measured.", holds=True, effect=1.0))
    told.append(Finding("no", "No.", expectation="Not.", holds=False))
    told.append(Finding("head", "Head.", headline=True, short="In short"))
    chosen = opening.sentences([each.plain() for each in [*facts, *told]])
    assert [each["said"] for each in chosen] == ["In short", "Not", "Measured", "Expected 0", "Expected 1"]


def test_every_run_stands_by_size_and_seed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = parse(read_yaml(ROOT / "studies/smoke.yaml"))
    write_text(Path("results/tables/runs.csv"), "run,held_out_loss\npythia-tiny,6.25\n")
    columns, rows = opening.grid(study)
    assert columns == ["standard, seed 1234", "deduped, seed 1234"]
    assert [size for size, _ in rows] == ["tiny", "small"]
    cells = {cell.run: cell for _, row in rows for runs in row for cell in runs}
    assert set(cells) == set(study.runs)
    tiny = cells["pythia-tiny"]
    assert (tiny.loss, tiny.state) == ("6.250", "incomplete") and "0 of 5 models" in tiny.counts
    assert ("card", "cards/pythia-tiny/README.md") in tiny.links and ("log", "../logs/train") in tiny.links


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, ""),
        ({"effect": -0.12, "unit": "nats per byte"}, "Effect -0.12 nats per byte."),
        (
            {"effect": 0.5, "interval": (0.4, 0.6), "yardstick": -0.01},
            "Effect +0.5; 95 % interval +0.4 to +0.6; another seed -0.01.",
        ),
        ({"effect": float("nan"), "interval": (float("nan"), 1.0)}, ""),
    ],
)
def test_what_a_finding_was_measured_by_is_said_as_far_as_it_is_known(given: dict[str, Any], said: str) -> None:
    assert drawn.measured(Finding("a", "A.", **given).plain()) == said


def test_a_finding_links_to_its_figure_and_to_a_table_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_text(Path("results/science/paired.csv"), "a\n1\n")
    found = Finding("a", "A.", figure="loss", table="paired").plain()
    assert drawn.finding(found, {"loss": "index.html"})["links"] == [
        ("index.html#figure-loss", "figure"), ("science/paired.csv", "table"),
    ]  # fmt: skip
    assert drawn.finding({**found, "table": "absent", "figure": "absent"}, {})["links"] == []
    older = {key: found[key] for key in ("id", "text", "expectation", "holds")}
    assert drawn.finding(older, {})["measured"] == ""
