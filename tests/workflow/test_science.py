"""`make science`: every analysis that the smoke study has the runs for, and their page, by the rules."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

import pandas as pd

from scripts.common.files import read_json
from scripts.study.analyses import asked
from scripts.study.study import load
from tests.browser.chromium import Chromium
from tests.workflow.conftest import ROOT, Workflow
from tests.workflow.test_faults import kill_after
from tests.workflow.test_pages import VIEWS, faults


def test_every_analysis_and_their_page_are_made_once_also_after_a_kill(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    science = workflow.folder / "results/science"
    begun = (science / "trajectories.parquet").exists  # beside others, whose jobs die with it
    assert kill_after(workflow.study("science"), 0.2, begun)
    done = subprocess.run(workflow.study("science"), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    study, results = load(workflow.folder / "results/study.json"), workflow.folder / "results"
    analyses, text = asked(study), (results / "science.html").read_text()
    assert len(analyses) > 10 and all(f'id="{analysis.name}"' in text for analysis in analyses)
    for path in (workflow.folder / file for analysis in analyses for file in analysis.files):
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
            assert all(frame[column].map(pd.api.types.is_scalar).all() for column in frame), path
    assert len({finding["id"] for finding in read_json(results / "science/findings.json")}) > 10
    assert workflow.planned("science") == {}
    assert not [path for path in science.iterdir() if path.suffix not in (".csv", ".parquet", ".json", ".svg")]
    if shutil.which("chromium"):  # as tests/workflow/test_pages.py
        with Chromium() as chromium:
            assert faults(chromium, results / "science.html", VIEWS[0], workflow.folder) == []
