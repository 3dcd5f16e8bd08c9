"""Every step's model, as a user loads it."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoTokenizer, GPTNeoXForCausalLM

from scripts.neox.model import GPTNeoX
from scripts.neox.weights import read_layers
from scripts.study.study import load
from tests.workflow.conftest import SMOKE, Workflow

STUDY = load(SMOKE)
CASES = [(run, step) for run in STUDY.runs for step in STUDY.steps(run)]


@pytest.mark.parametrize(("run", "step"), CASES)
def test_model_loads_generates_and_equals_the_trainer(finished: Workflow, run: str, step: int) -> None:
    folder = finished.folder / f"models/{run}/step{step}"
    loaded, tokenizer = GPTNeoXForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("Alice was beginning to get very tired", return_tensors="pt")
    text = tokenizer.decode(loaded.generate(inputs["input_ids"], do_sample=False, max_new_tokens=5)[0])
    assert text.startswith("Alice was beginning to get very tired")
    spec = STUDY.run(run)
    found = read_layers(finished.folder / f"checkpoints/{run}/global_step{step}", spec.size.layers)
    trained = GPTNeoX(spec.size, STUDY.padded_vocabulary(run), spec.training.sequence_length)
    for index, module in trained.numbered().items():
        module.load_state_dict(found[index])
    with torch.no_grad():
        assert (loaded(inputs["input_ids"]).logits - trained(inputs["input_ids"])).abs().max() < 1e-5
    facts = json.loads((folder / "manifest.json").read_text())["facts"]
    assert facts["max_logit_difference"] < 1e-5
