"""A run of four tiny steps, native and as models with manifests and a card, for tests of publication."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch

from scripts.common import manifest
from scripts.common.files import write_json
from scripts.common.manifest import ManifestFacts
from scripts.convert.from_neox import Native, write
from scripts.convert.model_folder import content_files
from scripts.data import tokenizer as training_tokenizer
from scripts.neox import writer as neox_write
from scripts.neox.parity import Shape
from scripts.neox.tensor_parallel import Layers, shard_shape, tensor_names
from scripts.study.manifests import CheckpointFacts, ModelFacts
from tests.fakes import without_facts

RUN, STEPS = "pythia-tiny", [0, 1, 2, 4]
SHAPE = Shape(layers=1, width=32, heads=2, padded_vocabulary=384, sequence_length=64)
UNCHANGED = "every step since the checkpoint before had learning rate 0"


def layers(seed: int, dtype: torch.dtype = torch.float32, shape: Shape = SHAPE) -> Layers:
    generator = torch.Generator().manual_seed(seed)
    found: Layers = {}
    for index, name in tensor_names(shape.layers):
        size = shard_shape(name, shape.width, shape.padded_vocabulary, 1)
        found.setdefault(index, {})[name] = (torch.randn(size, generator=generator) / 16).to(dtype)
    return found


def make(root: Path) -> None:
    """checkpoints/, models/, data/tokenizer and results/cards of the run; step 1 has the weights of step 0."""
    text = ["Alice was beginning to get very tired of sitting by her sister on the bank"] * 30
    training_tokenizer.save(training_tokenizer.train(text, 300), root / "data/tokenizer")
    for step in STEPS:
        native = root / f"checkpoints/{RUN}/global_step{step}"
        native.mkdir(parents=True)
        neox_write.write(native, layers(max(step, 1)), SHAPE, step=step)
        describe(native, without_facts(CheckpointFacts), step)
        make_model(root, step, Native(native, []))
    card = root / f"results/cards/{RUN}"
    (card / "figures").mkdir(parents=True)
    (card / "README.md").write_text("# A card\n")
    (card / "figures/loss.svg").write_text("<svg/>")


def make_model(root: Path, step: int, native: Native) -> None:
    model = root / f"models/{RUN}/step{step}"
    model.mkdir(parents=True)
    write(native, model, "float32", 300)
    for path in (root / "data/tokenizer").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    write_json(model / "castalia.json", {"run": RUN, "step": step})
    facts = ModelFacts(unchanged=UNCHANGED if step == 1 else None)
    describe(model, facts, step, [Path(f"checkpoints/{RUN}/global_step{step}")])


def describe(folder: Path, facts: ManifestFacts, step: int, parents: Iterable[Path] = ()) -> None:
    """A manifest of what lies in a folder now."""
    subject = {"run": RUN, "step": step}
    manifest.write(folder, facts, subject=subject, settings={}, files=content_files(folder), parents=parents)
