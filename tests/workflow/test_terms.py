"""Term frequency on the smoke study, asked for as a target: counts of its order, and answers beside them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from scripts import api
from tests.workflow.conftest import Workflow

WORD = re.compile(r"(?<![^\W_])\d+(?![^\W_])")  # a number with neither letter nor digit beside it
ADDED = ("castalia_perplexity]", "castalia_perplexity, castalia_arithmetic]")


def test_counts_are_those_of_the_sequences_that_steps_read(copied: Callable[..., Workflow]) -> None:
    made = copied(ADDED)
    made.succeed("results/science/term_effects.csv")
    suite = api.study(made.folder)
    table, effects = suite.science("terms"), suite.science("term_effects")
    assert set(table["run"]) == set(suite.study.runs) and set(table["step"]) == {0, 1, 2, 4, 8}
    items = [json.loads(line) for line in (made.folder / "data/tasks/castalia_arithmetic.jsonl").open()]
    assert table.groupby(["run", "step"])["items"].sum().unique().tolist() == [len(items)] == [10]
    for run in suite.study.runs:
        sure, most = {}, {}
        for step in range(8):
            for text in suite.sequences(run, step).texts:
                for found in WORD.finditer(text):  # what touches a sequence's border may go on beyond it
                    inside = found.start() > 0 and found.end() < len(text)
                    for counts in [most, sure] if inside else [most]:
                        counts[found[0]] = counts.get(found[0], 0) + 1
        last = table[(table["run"] == run) & (table["step"] == 8)]
        for row in last.itertuples():
            assert sure.get(str(row.operand), 0) <= row.number <= most.get(str(row.operand), 0)
        assert (last["problem"] == 0).all() and (last["phrase"] == 0).all() and not last["held_out"].any()
    assert (table.loc[table["step"] == 0, "number"] == 0).all()
    assert np.isfinite(table["loglikelihood"]).all() and (table["loglikelihood"] < 0).all()
    assert len(effects) == 3 * 5 * 2 * 2 and set(effects["counted"]) == {"number", "phrase"}
    before = (made.folder / "results/science/terms.csv").read_bytes()
    done = made.command_line("scripts.science", "make", "terms")
    assert done.returncode == 0, done.stderr
    assert (made.folder / "results/science/terms.csv").read_bytes() == before
    pd.testing.assert_frame_equal(suite.science("term_effects"), effects)
