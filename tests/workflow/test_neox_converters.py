"""Our native checkpoints, read by the rules of gpt-neox's own converters to Transformers.

The rules, in our words: tools/convert_module_to_hf.py at v1.0 and tools/ckpts/convert_neox_to_hf.py at 00af983. Both
take every number from the YAML, under hyphens first, then underscores, and fill up what it leaves out.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from scripts.study.catalogue import CATALOGUE
from scripts.study.study import load
from scripts.train.checkpoint import neox_yaml
from tests import forks
from tests.workflow.conftest import ROOT, Workflow

RUN, STEP = "pythia-small", 8
COLUMN = ("mlp.dense_h_to_4h.weight", "mlp.dense_h_to_4h.bias", "attention.query_key_value.weight",
          "attention.query_key_value.bias")  # fmt: skip
ROW = ("attention.dense", "mlp.dense_4h_to_h")
NORMS = ("input_layernorm", "post_attention_layernorm")
BUFFER = "attention.rotary_emb.inv_freq"
MULTIPLE = "make-vocab-size-divisible-by"


def asked(config: Mapping[str, Any], key: str, default: Any = None) -> Any:
    return config.get(key, config.get(key.replace("-", "_"), default))


def vocabulary(config: Mapping[str, Any], tokens: int) -> int:
    """Sequences of the embedding, as NeoX's tokenizer pads them."""
    multiple = asked(config, MULTIPLE, 128) * asked(config, "model-parallel-size")
    return -(-tokens // multiple) * multiple


def converted(folder: Path, config: Mapping[str, Any], version: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of the Transformers model; raises KeyError where the converter would."""
    tokens = Tokenizer.from_file(asked(config, "vocab-file")).get_vocab_size(with_added_tokens=True)
    assert asked(config, "tokenizer-type") == "HFTokenizer" and not asked(config, "gpt-j-tied", False)
    made = {
        "vocab_size": vocabulary(config, tokens),
        "hidden_size": asked(config, "hidden-size"),
        "num_hidden_layers": asked(config, "num-layers"),
        "num_attention_heads": asked(config, "num-attention-heads"),
        "max_position_embeddings": asked(config, "max-position-embeddings"),
        "tie_word_embeddings": not asked(config, "no-weight-tying", False),
        "use_parallel_residual": asked(config, "gpt-j-residual", False),
        "layer_norm_eps": asked(config, "layernorm-epsilon", 1e-5),
        "partial_rotary_factor": asked(config, "rotary-pct", 1.0),
        "rope_theta": asked(config, "rotary-emb-base", 10_000 if version == "v1.0" else 1_000),
    }
    ranks = asked(config, "model-parallel-size")

    def layer(index: int) -> list[dict[str, Tensor]]:
        names = [folder / f"layer_{index:02}-model_{rank:02}-model_states.pt" for rank in range(ranks)]
        return [torch.load(name, weights_only=True) for name in names]

    def joined(parts: list[dict[str, Tensor]], name: str) -> Tensor:
        return torch.cat([part[name] for part in parts], dim=0)

    state = {"gpt_neox.embed_in.weight": joined(layer(0), "word_embeddings.weight")}
    assert len(state["gpt_neox.embed_in.weight"]) == made["vocab_size"]
    for index in range(made["num_hidden_layers"]):
        parts, before = layer(index + 2), f"gpt_neox.layers.{index}."
        for name in COLUMN:
            state[before + name] = joined(parts, name)
        for name in ROW:
            state[f"{before}{name}.weight"] = torch.cat([part[f"{name}.weight"] for part in parts], dim=1)
            state[f"{before}{name}.bias"] = sum((part[f"{name}.bias"] for part in parts[1:]), parts[0][f"{name}.bias"])
        for name in (f"{norm}.{kind}" for norm in NORMS for kind in ("weight", "bias")):
            state[before + name] = sum((part[name] for part in parts[1:]), parts[0][name]) / ranks
        if version == "v1.0":
            width = made["hidden_size"] // made["num_attention_heads"] * made["partial_rotary_factor"]
            assert parts[0][BUFFER].shape == (int(width) // 2,)
    parts = layer(made["num_hidden_layers"] + 3)
    for kind in ("weight", "bias"):
        name = f"norm.{kind}"
        state[f"gpt_neox.final_layer_norm.{kind}"] = sum((p[name] for p in parts[1:]), parts[0][name]) / ranks
    state["embed_out.weight"] = joined(layer(made["num_hidden_layers"] + 4), "final_linear.weight")
    return made, state


def same_as_ours(made: dict[str, Any], state: dict[str, Tensor]) -> None:
    ours = load_file(f"models/{RUN}/step{STEP}/model.safetensors")
    assert ours.keys() == state.keys()
    assert [name for name in ours if not torch.equal(ours[name], state[name])] == []
    config = json.loads(Path(f"models/{RUN}/step{STEP}/config.json").read_text())
    rotary = config.pop("rope_parameters")
    assert {key: {**config, **rotary}[key] for key in made} == made


def test_heads_converter_reads_a_checkpoint_of_training(finished: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.folder)
    folder = Path(f"checkpoints/{RUN}/global_step{STEP}")
    config = yaml.full_load((folder / f"configs/{RUN}.yml").read_text())
    same_as_ours(*converted(folder, config, "HEAD"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_the_converter_of_v1_reads_what_to_neox_writes(
    finished: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: int
) -> None:
    monkeypatch.chdir(finished.folder)
    command = [
        forks.python(),
        "-m",
        "scripts.convert",
        "to-neox",
        "--model",
        f"models/{RUN}/step{STEP}",
        "--step",
        str(STEP),
    ]
    arguments = ["--to", str(tmp_path), "--tensor-parallel", str(ranks)]
    subprocess.run([*command, *arguments], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    config = yaml.full_load(Path(f"checkpoints/{RUN}/global_step{STEP}/configs/{RUN}.yml").read_text())
    config |= {"model-parallel-size": ranks, MULTIPLE: config[MULTIPLE] // ranks}
    same_as_ours(*converted(tmp_path / f"global_step{STEP}", config, "v1.0"))


def test_the_yaml_pads_every_published_vocabulary_as_it_was() -> None:
    """50277 tokens; 50304 rows but for 6.9b and 12b, whose 2 and 4 tensor-parallel ranks had 50432 and 50688."""
    study = load(ROOT / "studies/pythia.yaml")
    runs = {study.run(name).size.name: name for name in study.trained}
    found = {}
    for size, name in runs.items():
        config = yaml.full_load(neox_yaml(study.run(name), study.train_settings(name)))
        found[size] = vocabulary(config, 50_277)
    expected = {size: {2: 50_432, 4: 50_688}.get(CATALOGUE[size].tensor_parallel, 50_304) for size in runs}
    assert found == expected and {"6.9b", "12b"} <= found.keys()
