"""Model cards: exact counts, schedule, names, scores and what is left out where the study has none."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import yaml

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.report.cards.cards import OLD_SUITE, figures_of, rows_of
from scripts.report.cards.text import Card, number, shortened, text
from scripts.study.manifests import CorpusFacts, TextSize
from scripts.study.study import Study, load, parse
from scripts.study.targets import CARD_FIGURES


@pytest.fixture(scope="module")
def pythia() -> Study:
    return load(ROOT / "studies/pythia.yaml")


def card(study: Study, name: str) -> Card:
    return Card(
        run=study.run(name),
        study=study.file.study,
        licence=study.file.licence,
        vocabulary=study.file.data.tokenizer.vocabulary,
        padded_vocabulary=study.padded_vocabulary(name),
        steps=study.steps(name),
        optimizer_steps=study.optimizer_steps(name),
        family=[(run, spec, spec.size.parameters(study.padded_vocabulary(run))) for run, spec in study.runs.items()],
        old_names=read_yaml(OLD_SUITE)["names"],
    )


def test_a_card_of_the_suite_holds_the_published_numbers(pythia: Study) -> None:
    told = text(card(pythia, "pythia-6.9b-deduped"))
    row = "| pythia-6.9b-deduped | 6,444,163,072 | 32 | 4096 | 32 | 2.1M tokens | 0.00012 | float16 |"
    assert row in told
    assert "6,857,302,016 parameters: 6,444,163,072 and two untied embeddings of 50,432 x 4,096" in told
    assert "143,000 of 1,024 sequences of 2,048 tokens, 299.9B tokens in all" in told
    assert "154 of its checkpoints are revisions of this repository, `step0` to `step143000`" in told
    assert "| **pythia-6.9b-deduped** | 6.9b | 6,857,302,016 | 6,444,163,072 | pythia-6.7b |" in told
    assert "| pythia-70m | 70m | 70,426,624 | 18,915,328 | pythia-19m |" in told
    assert "155 rows of padding" in told
    assert "peak 0.00012, warm-up over 1% of the steps, floor at 10% of the peak" in told
    assert "Not evaluated in this study." in told
    assert "## Memorization" not in told
    assert "None" not in told and "nan" not in told


def test_the_card_opens_with_yaml_that_the_hub_reads(pythia: Study) -> None:
    _, front, rest = text(card(pythia, "pythia-70m")).split("---\n", 2)
    read = yaml.safe_load(front)
    assert read["license"] == "apache-2.0"
    assert read["library_name"] == "transformers"
    assert {"gpt_neox", "pythia"} <= set(read["tags"])
    assert rest.startswith("\n# pythia-70m\n")


def test_the_licence_is_the_studys(pythia: Study) -> None:
    content = read_yaml(ROOT / "studies/pythia.yaml")
    assert "licence" not in pythia.file.model_dump()  # the same results/study.json as before there was the key
    stated = parse({**content, "licence": "CC-BY-4.0"})
    told = text(card(stated, "pythia-70m"))
    assert "license: cc-by-4.0\n" in told and "The weights: CC-BY-4.0. " in told and "apache" not in told
    assert parse(stated.file.model_dump()).file == stated.file
    with pytest.raises(UserError, match="licence: 'Apache 2'"):
        parse({**content, "licence": "Apache 2"})


def test_a_cards_figures_show_its_own_run_alone() -> None:
    study = load(ROOT / "studies/smoke.yaml")
    losses = pd.DataFrame(
        [{"run": f"pythia-{size}", "size": size, "corpus": "standard", "step": step, "loss": 6.0, "intervention": ""}
         for size in ("tiny", "small") for step in range(1, 9)]
    )  # fmt: skip
    runs = losses.groupby("run", as_index=False).first().assign(non_embedding=1, training_loss=[6.1, 6.2])
    empty = pd.DataFrame(columns=["run", "size", "corpus", "step", "task_set", "task"])
    made = {"losses": losses, "runs": runs, "held_out": empty, "evals": empty, "memorization": empty}
    drawn = figures_of(study, "pythia-tiny", made)
    assert set(drawn) == set(CARD_FIGURES)
    assert drawn["loss"].title == "Training loss ends at 6.20 (tiny) nats per token"
    assert "small" not in str(drawn["loss"].chart.to_dict()["datasets"])


def test_scores_memorization_and_corpus_stand_in_the_card(pythia: Study) -> None:
    scored = replace(
        card(pythia, "pythia-70m"),
        evals=[{"step": 512, "task": "piqa", "shots": 0, "metric": "acc", "value": 0.59849, "stderr": None, "n": 1838}],
        memorization=[
            {
                "step": 256,
                "chosen": "sample",
                "seen": True,
                "sequences": 100,
                "memorized": 3,
                "fraction": 0.03,
                "mean_score": 0.2,
            }
        ],
        corpus=CorpusFacts(1000, 149_946_368_000, 0, 0, 0, {"x": TextSize(1, 9)}, None),
        final={"training_loss": 2.5, "held_out_loss": 2.75},
        logits=1.23e-5,
        figures={"loss": "Loss falls"},
    )
    told = text(scored)
    assert "| piqa | 0 | acc | 0.5985 |  | 1838 |" in told
    assert (
        "| metric | step 512 |" in told and "At step 256. A sequence is memorized" in told
    )  # not the last that is saved
    assert 'revision="step143000"' in told  # how the last is loaded
    assert "| sample | yes | 100 | 3 | 3.00% | 0.2000 |" in told
    assert "299.9B tokens in all, 2.00 passes over the corpus." in told
    assert "  - x: 1 documents, 9 tokens" in told
    assert "2.5000 nats per token in training, 2.7500 on held-out text" in told
    assert "by at most 1.2e-05" in told
    assert "![Loss falls](figures/loss.svg)" in told


def test_a_published_models_card_claims_no_training_and_no_licence(pythia: Study) -> None:
    told = text(replace(card(pythia, "pythia-70m"), source="EleutherAI/pythia-70m"))
    assert "published by others (EleutherAI/pythia-70m) and examined in the study `pythia`" in told
    assert "Not trained here; see EleutherAI/pythia-70m." in told
    assert "license" not in told.split("---")[1]
    assert "Learning rate: " not in told


def test_rows_are_those_of_the_runs_last_step() -> None:
    frame = pd.DataFrame({"run": ["a", "a", "b"], "step": [1, 8, 16], "stderr": [None, None, 1.0]})
    assert rows_of(frame, "a", last_only=True) == [{"run": "a", "step": 8, "stderr": None}]
    assert len(rows_of(frame, "a")) == 2
    assert rows_of(frame, "c", last_only=True) == rows_of(None, "a") == []


def test_numbers_and_long_lists_are_shortened() -> None:
    assert [number(n) for n in (512, 409_600, 2_097_152, 299_892_736_000)] == ["512", "409,600", "2.1M", "299.9B"]
    assert shortened(list(range(20)), 6) == [0, 1, 2, 3, "...", 19]
    assert shortened([0, 8]) == [0, 8]
