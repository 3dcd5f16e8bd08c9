"""A bad batch is planted, and the zoom finds it: one document of random syllables among prose."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from scripts import api
from scripts.common.files import read_yaml
from tests.workflow.conftest import SMOKE, Workflow

RUN, BATCH, STEPS = "pythia-tiny", 4, 200
SYLLABLES = 60


def study_file(folder: Path) -> Path:
    """The smoke study's smallest run, longer, on prose and two documents that nothing prepares for."""
    content: dict[str, Any] = read_yaml(SMOKE)
    chooser = random.Random(7)
    noise = folder / "noise.jsonl"
    texts = ["".join(chr(chooser.randint(0xAC00, 0xD7A3)) for _ in range(SYLLABLES)) for _ in range(2)]
    noise.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))  # one of them will be held out
    novels = content["data"]["components"]["novels"]
    content["data"]["components"] = {"novels": novels, "noise": {"files": [str(noise)], "reader": "jsonl"}}
    content["data"]["corpora"] = {"standard": {"components": ["novels", "noise"], "deduplicate": "none"}}
    content["data"]["max_epochs"] = 8
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    content["sizes"]["tiny"]["learning_rate"] = 0.02
    content["training"] |= {"steps": STEPS, "batch_size": BATCH}
    content["checkpoints"]["schedule"] = {"log2_until": 4, "every": 50, "extra": []}
    content["checkpoints"]["optimizer_states"]["extra"] = [50, 100, 150]
    content["evaluation"]["steps"] = content["memorization"]["steps"] = [STEPS]
    content["export"] = None
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    folder = tmp_path_factory.mktemp("zoom")
    workflow = Workflow(folder / "made", study_file(folder))
    workflow.succeed("train")
    return workflow


def noisy(workflow: Workflow) -> list[int]:
    """Sample indices of sequences that are mostly noise."""
    suite = api.study(workflow.folder)
    batches = [suite.sequences(RUN, step) for step in range(STEPS)]
    pairs = ((index, text) for batch in batches for index, text in zip(batch.sample_indices, batch.texts, strict=True))
    return [index for index, text in pairs if sum(not letter.isascii() for letter in text) > len(text) / 2]


def test_the_spike_of_the_planted_batch_is_found_and_its_sequence_named(trained: Workflow) -> None:
    planted = noisy(trained)
    done = trained.command_line("scripts.replay", "spikes", "--run", RUN, "--threshold", "5", "--json")
    of_loss = [spike["step"] for spike in json.loads(done.stdout) if spike["measure"] == "loss"]
    assert of_loss and {step - 1 for step in of_loss} <= {index // BATCH for index in planted}
    done = trained.command_line("scripts.replay", "zoom", "--run", RUN, "--around-spike", "--threshold", "5")
    assert done.returncode == 0, done.stderr
    (step,), (index,) = re.findall(r"at step (\d+)", done.stdout), re.findall(r"sample index (\d+), noise", done.stdout)
    step, index = int(step), int(index)
    assert step in of_loss and index in planted and index // BATCH == step - 1
    assert "1 of 4 sequences stand out" in done.stdout and "noise.jsonl:" in done.stdout
    assert re.search("[\uac00-\ud7a3]{8}", done.stdout)  # its text
    table = pd.read_csv(trained.folder / f"results/zoom/{RUN}/step{step}.csv")
    metrics = (trained.folder / f"checkpoints/{RUN}/metrics.jsonl").read_text()
    logged = [json.loads(line)["loss"] for line in metrics.splitlines()]
    means = table.groupby("step").loss.mean()
    assert np.allclose(means, np.array(logged)[means.index.to_numpy()], atol=1e-5)  # the line that the batch led to
    none = trained.command_line("scripts.replay", "zoom", "--run", RUN, "--around-spike", "--threshold", "1000")
    assert none.returncode == 2 and "no spike of 1000 deviations\n  write:   a lower --threshold" in none.stderr
