"""An analysis by name: what is made, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.plan.jobs import jobs_by_rule
from scripts.science import make
from scripts.study import analyses, targets
from scripts.study.analyses import ANALYSES, Analysis
from scripts.study.stages import EVALUATE, TRAIN
from scripts.study.study import load

SMOKE = ROOT / "studies/smoke.yaml"
FAKE = Analysis("fake", "Is it there?", (TRAIN, EVALUATE), ("fake_table",), ("fake_figure",), in_study=True)


@pytest.fixture
def with_fake(monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(made=lambda study: {"fake_table": pd.DataFrame({"runs": [len(study.runs)]})})
    monkeypatch.setitem(sys.modules, "scripts.science.fake", module)
    monkeypatch.setattr(make, "ANALYSES", (*ANALYSES, FAKE))
    monkeypatch.setattr(analyses, "ANALYSES", (*ANALYSES, FAKE))


def test_tables_of_an_analysis_are_written(with_fake: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["make", "fake", "--study", str(SMOKE), "--directory", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    make.main()
    assert pd.read_csv(tmp_path / "results/science/fake_table.csv")["runs"].tolist() == [3]
    assert (tmp_path / "results/science/fake_table.parquet").exists()


def test_an_unknown_analysis_is_refused_with_the_near_one(with_fake: None) -> None:
    with pytest.raises(UserError, match=r"analysis: 'fakee' is not allowed\n  allowed: .*fake\n  write:   fake$"):
        make.named(load(SMOKE), "fakee")


def test_an_analysis_without_what_it_needs_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    never = Analysis("never", "Is it?", (), ("never",), asked=lambda study: False)
    monkeypatch.setattr(make, "ANALYSES", (never,))
    with pytest.raises(UserError, match=r"never: the study has not what it needs; it asks: Is it\?"):
        make.named(load(SMOKE), "never")


def test_targets_and_job_counts_follow_from_the_declaration(with_fake: None) -> None:
    study = load(SMOKE)
    assert "results/science/fake_table.csv" in targets.of_report(study)
    assert targets.figures(study)["fake_figure"] == "Science"
    assert jobs_by_rule(study)["science_fake"] == 1
    runs = [path for path in FAKE.inputs(study) if path.startswith("checkpoints/")]
    assert len(runs) == 3 and set(EVALUATE.files(study)) < set(FAKE.inputs(study))


def test_every_analysis_has_its_module_and_its_theme() -> None:
    for analysis in ANALYSES:
        assert (ROOT / f"scripts/science/{analysis.name}.py").exists()
        assert (ROOT / f"scripts/report/findings/{analysis.theme or analysis.name}.py").exists()
    tables = [table for analysis in ANALYSES for table in analysis.tables]
    figures = [figure for analysis in ANALYSES for figure in analysis.figures]
    assert len(set(tables)) == len(tables) and len(set(figures)) == len(figures)
