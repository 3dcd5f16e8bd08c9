"""Which checkpoints write, and that the text is the greedy continuation whatever stands beside."""

from __future__ import annotations

import pandas as pd

from scripts.common.environment import ROOT
from scripts.report.findings import generations as told
from scripts.report.results import Results
from scripts.science import generations
from scripts.study.study import load


def test_steps_go_from_first_to_last_evenly_in_log_step() -> None:
    pythia = [0, *(2**power for power in range(10)), *range(1000, 143_001, 1000)]
    chosen = generations.steps(pythia)
    assert chosen[0] == 0 and chosen[-1] == 143_000 and len(chosen) == generations.STEPS
    assert set(chosen) <= set(pythia)
    assert generations.steps([0]) == [0]


def test_one_run_of_each_size_and_corpus_writes() -> None:
    names = [run.name for run in generations.shown(load(ROOT / "config.yaml"))]
    assert len(names) == len(set(names)) and not [name for name in names if "seed" in name or "intervention" in name]


def test_the_finding_quotes_both_ends_of_the_largest() -> None:
    rows = [{"run": run, "non_embedding": size, "step": step, "prompt": "It was", "continuation": f" {run} {step}",
             "distinct": 1 - step / 10} for run, size in (("small", 1), ("large", 2)) for step in (0, 8)]  # fmt: skip
    results = Results.__new__(Results)
    object.__setattr__(results, "science", {"generations": pd.DataFrame(rows)})
    (found,) = told.all_findings(results)
    assert "“large 0” at step 0" in found.text and "“large 8” at step 8" in found.text
    assert found.numbers["distinct_last"] == 1 - 8 / 10
    object.__setattr__(results, "science", {})
    assert told.all_findings(results) == []
