"""Score rows of a run's order for memorization at several checkpoints.

A row's first `prompt` tokens are continued greedily; score is the share of the next `continuation`
tokens that are equal, and a row is memorized if all are (Biderman et al. 2023, "Emergent and
Predictable Memorization"). Ties of the arg-max go to the lower token id.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common import manifest
from scripts.common.errors import run
from scripts.common.files import atomic, canonical, sha256_file
from scripts.common.progress import progress
from scripts.data.rows import Rows
from scripts.memorize.rows import Chosen, choose
from scripts.study.study import Study, load


def greedy_scores(model: Any, rows: np.ndarray, prompt: int, batch_size: int) -> np.ndarray:
    """Share of continuation tokens equal to the row's, float64 [n]; rows int64 [n, prompt+continuation]."""
    import torch

    truth = torch.from_numpy(rows)
    scores = []
    with torch.no_grad():
        for batch in truth.split(batch_size):
            batch = batch.to(model.device)
            generated = model.generate(
                batch[:, :prompt],
                attention_mask=torch.ones_like(batch[:, :prompt]),
                do_sample=False,
                min_new_tokens=None,
                max_new_tokens=batch.shape[1] - prompt,
                eos_token_id=None,  # no token ends a continuation
                pad_token_id=0,
            )
            scores.append((generated[:, prompt:] == batch[:, prompt:]).double().mean(dim=1).cpu())
    return torch.cat(scores).numpy()


def table(chosen: Chosen, components: list[str], scores: np.ndarray, step: int, batch_size: int) -> pa.Table:
    """The result's columns (docs/formats.md)."""
    step_seen = chosen.place // batch_size + 1
    return pa.table(
        {
            "place": chosen.place,
            "step_seen": step_seen,
            "seen": step_seen <= step,
            "chosen": chosen.kind,
            "count": chosen.count,
            "component": components,
            "score": scores,
            "memorized": scores == 1.0,
        }
    )


def score_steps(study: Study, name: str, steps: list[int]) -> None:
    """Write results/memorization/<run>/step<N>.parquet for every step, one model filled in turn."""
    import torch
    from transformers import GPTNeoXForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    torch.set_num_threads(study.file.runtime.threads)
    spec, asked = study.run(name), study.file.memorization
    width = asked.prompt + asked.continuation
    corpus = Path("data") / spec.corpus
    order = Rows.open(corpus, spec.data_seed)
    all_rows = order.rows(0, spec.rows)[:, :width].astype(np.int64)
    chosen = choose(all_rows, order.tokens.flat, asked.sample_rows, asked.repeated_rows, asked.seed)
    components = [order.row_origin(int(place)) for place in chosen.place]
    with progress(f"memorize {name}", len(steps), "checkpoints") as tell:
        for done, step in enumerate(steps, start=1):
            folder = Path("models") / name / f"step{step}"
            manifest.read(folder / manifest.NAME, "model")
            model: Any = GPTNeoXForCausalLM.from_pretrained(folder)
            model = model.to(study.file.runtime.device).eval()
            scores = greedy_scores(model, all_rows[chosen.place], asked.prompt, asked.batch_size)
            result = table(chosen, components, scores, step, spec.training.batch_size)
            facts = {
                "run": name,
                "step": step,
                "model": sha256_file(folder / manifest.NAME),
                "science": study.memorization_science(),
            }
            result = result.replace_schema_metadata({"castalia": canonical(facts)})
            with atomic(Path("results/memorization") / name / f"step{step}.parquet") as path:
                pq.write_table(result, path, compression="zstd")
            tell(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="saved steps to score")
    arguments = parser.parse_args()
    study = load(arguments.study)
    study.check_steps(arguments.run, arguments.steps)
    score_steps(study, arguments.run, arguments.steps)


if __name__ == "__main__":
    run(main)
