"""Text that models write: greedy continuations of a few fixed prompts, by size and step."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.analyze.tables import identity, tokens_at
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study

PROMPTS = ("The people of the United States", "It was the", "def main(", "In the beginning")
TOKENS = 40  # of each continuation, as far as the model's context goes
STEPS = 6  # of each run, from its first to its last, evenly in log step


def made(study: Study) -> dict[str, pd.DataFrame]:
    """A row per run, step and prompt: `continuation`, and `distinct`, the fraction of its tokens that are different."""
    rows = [
        row for spec in shown(study) for step in steps(study.steps(spec.name)) for row in written(study, spec, step)
    ]
    order = ["non_embedding", "corpus", "run", "prompt", "step"]
    return {"generations": pd.DataFrame(rows).sort_values(order, kind="stable", ignore_index=True)}


def shown(study: Study) -> list[Run]:
    """The first run of each size and corpus."""
    first: dict[tuple[str, str], Run] = {}
    for spec in study.runs.values():
        if spec.origin is None:
            first.setdefault((spec.size.name, spec.corpus), spec)
    return list(first.values())


def steps(saved: list[int]) -> list[int]:
    """Up to STEPS of the saved steps, the first and the last among them."""
    wanted = np.geomspace(1, saved[-1] + 1, STEPS) - 1
    return sorted({min(saved, key=lambda step: abs(np.log1p(step) - np.log1p(each))) for each in wanted})


def written(study: Study, spec: Run, step: int) -> list[dict[str, object]]:
    """What a step's model makes of each prompt, decided as memorization does: the same whatever is computed beside."""
    import torch

    from scripts.data.tokenizer import load_tokenizer
    from scripts.data.tools.view.text import on_a_line
    from scripts.memorize.greedy import anew
    from scripts.memorize.model import Model

    tokenizer = load_tokenizer(study)
    model = Model.of_folder(paths.model(spec.name, step), torch.float32, study.file.runtime.device)
    rows = []
    for prompt in PROMPTS:
        ids = torch.tensor([tokenizer.encode(prompt).ids], device=model.device)
        start = ids.shape[1]
        with torch.inference_mode():
            for _ in range(min(TOKENS, spec.training.sequence_length - start)):
                ids = torch.cat([ids, anew(model, ids, torch.float32)[:, None]], dim=1)
        new = ids[0, start:].tolist()
        told: dict[str, object] = {"prompt": prompt, "continuation": on_a_line(tokenizer.decode(new))}
        told["distinct"] = len(set(new)) / max(1, len(new))
        rows.append({**identity(spec), "step": step, "tokens": tokens_at(spec, step), **told})
    return rows
