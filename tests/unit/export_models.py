"""Small GPT-NeoX models with random weights and a tokenizer, as Transformers saves them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from scripts.data.tokenizer import save, train

VOCABULARY = 400
CONTEXT = 48
WORDS = ["the", "spring", "of", "Castalia", "it's", "don't", "héllo", "x", "=", "42", "\n", "def f(a):\n    return a\n"]


def texts(count: int = 60) -> list[str]:
    """Texts that a vocabulary of 400 can be trained on."""
    return [" ".join(random.Random(seed).choices([*WORDS, *map(str, range(500))], k=300)) for seed in range(count)]


def make_model(folder: Path, *, dtype: torch.dtype = torch.float32, shard: str = "5GB", **changes: Any) -> Path:
    """A model folder; every bias and norm is random too, so that a lost or swapped one is seen."""
    shape = {
        "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2, "intermediate_size": 256,
        "vocab_size": 512, "max_position_embeddings": CONTEXT, "hidden_act": "gelu_pytorch_tanh",
        "use_parallel_residual": True, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000, "partial_rotary_factor": 0.25},
    }  # fmt: skip
    torch.manual_seed(1)
    model: Any = GPTNeoXForCausalLM(GPTNeoXConfig(**{**shape, **changes}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if "norm" in name and name.endswith("weight") else 0.15 * noise)
    model.to(dtype).save_pretrained(folder, max_shard_size=shard)
    save(train(texts(), VOCABULARY), folder)
    return folder


def logits_of(folder: Path, tokens: list[int]) -> Any:
    """float32 logits [tokens, vocabulary] by Transformers."""
    model: Any = GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return model(torch.tensor([tokens])).logits[0].numpy()
