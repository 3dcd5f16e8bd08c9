"""The catalogue against Pythia's files, and every choice between disagreeing sources explained."""

from __future__ import annotations

import re

import pytest

from scripts.common.environment import ROOT
from scripts.study.catalogue import CATALOGUE

PYTHIA = {name: size for name, size in CATALOGUE.items() if size.published_total}

# layers, hidden size, heads, lr, GPUs, model-parallel-size, train_micro_batch_size_per_gpu, gradient accumulation,
# ZeRO stage, bucket, pipe-parallel-size, as they stand in models/*/*.yml of EleutherAI/pythia at a19eecb
FILES = {
    "14m": (6, 128, 4, 0.001, 32, 1, 32, 1, 0, 50_000_000, 0),
    "31m": (6, 256, 8, 0.001, 32, 1, 32, 1, 0, 500_000_000, 0),
    "70m": (6, 512, 8, 0.001, 32, 1, 32, 1, 1, 500_000_000, 1),
    "160m": (12, 768, 12, 0.0006, 32, 1, 32, 1, 1, 500_000_000, 1),
    "410m": (24, 1024, 16, 0.0003, 32, 1, 32, 1, 1, 500_000_000, 1),
    "1b": (16, 2048, 8, 0.00025, 64, 1, 16, 1, 1, 500_000_000, 1),
    "1.4b": (24, 2048, 16, 0.0002, 64, 1, 16, 1, 1, 500_000_000, 1),
    "2.8b": (32, 2560, 32, 0.00016, 64, 1, 16, 1, 1, 500_000_000, 1),
    "6.9b": (32, 4096, 32, 0.00012, 128, 2, 8, 2, 1, 1_260_000_000, 1),
    "12b": (36, 5120, 40, 0.00012, 256, 4, 8, 2, 1, 1_260_000_000, 1),
}


def test_every_published_size_is_there() -> None:
    assert list(PYTHIA) == list(FILES)


@pytest.mark.parametrize("name", list(FILES))
def test_values_are_those_of_the_file_it_names(name: str) -> None:
    size = PYTHIA[name]
    layers, width, heads, rate, gpus, parallel, micro, accumulated, stage, bucket, pipe = FILES[name]
    assert (size.layers, size.width, size.heads, size.learning_rate) == (layers, width, heads, rate)
    assert (size.gpus, size.tensor_parallel, size.micro_batch) == (gpus, parallel, micro)
    assert (size.zero_stage, size.bucket, size.pipe_parallel) == (stage, bucket, pipe)
    assert gpus // parallel * micro * accumulated == 1024, "the sequences of Pythia's batch"
    assert size.source == f"models/{name.upper()}/pythia-{name}.yml"


# what the sources disagree on, by the sizes it touches and words that its explanation can't do without
DISAGREEMENTS = {
    "1b, learning rate": ["2.5e-4", "3.0e-4", "we take the files"],
    "1b, precision": ["fp16", "bf16", "ZeRO 0", "micro-batch 4", "flash", "#171"],
    "2.8b, micro-batch": ["2-8B.yml", "micro-batch 8", "16 in one"],
    "6.9b, 12b": ["0.02/sqrt(2L)", "no initialization", "#135"],
    "12b": ["line 19", "comma"],
    "12b-deduped": ["40 layers and 36 heads", "36 layers and 40 heads"],
    "14m, 31m, text": ["standard", "deduplicated"],
    "14m, 31m, layout": ["pipe-parallel-size: 0", "ZeRO 0", "one file"],
    "bucket sizes": ["5e7", "1.26e9", "5e8"],
    "gas": ["gradient_accumulation_steps"],
}


def explained() -> dict[str, str]:
    """The paragraphs of "Where sources disagree" by their bold head."""
    section = (ROOT / "docs/fidelity.md").read_text().split("## Where sources disagree")[1].split("\n## ")[0]
    found = re.findall(r"^- \*\*(.+?)\*\*: (.+?)(?=^- |\Z)", section, flags=re.MULTILINE | re.DOTALL)
    return {head: " ".join(text.split()) for head, text in found}


def test_every_disagreement_of_the_sources_is_explained() -> None:
    paragraphs = explained()
    assert set(paragraphs) == set(DISAGREEMENTS)
    for head, words in DISAGREEMENTS.items():
        assert [word for word in words if word not in paragraphs[head]] == []


def test_every_note_of_the_catalogue_has_its_explanation() -> None:
    noted = {name for name, size in PYTHIA.items() if size.notes}
    heads = " ".join(explained()).replace(",", " ").split()
    assert noted == {"14m", "31m", "1b", "6.9b", "12b"}
    assert noted <= set(heads)
