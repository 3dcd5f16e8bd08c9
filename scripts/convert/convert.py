"""Convert checkpoints of one run to Transformers models whose logits equal the trainer's."""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import UserError, run
from scripts.common.files import write_json
from scripts.common.progress import progress
from scripts.study.study import Study, load

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TOLERANCE = {"fp32": 1e-4, "bf16": 0.25, "fp16": 0.05}  # largest |logit difference| to the trainer accepted
TOKENIZER = Path("data/tokenizer")
PROBE_ROWS = 4


class Converter:
    """One Transformers model and one trainer's model, refilled for every step."""

    def __init__(self, study: Study, name: str) -> None:
        import torch
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
        from transformers.utils import logging

        from scripts.convert.neox import config_of
        from scripts.train.model import GPTNeoX

        logging.disable_progress_bar()
        torch.set_num_threads(study.file.runtime.threads)
        self.torch, self.name = torch, name
        self.spec = study.run(name)
        self.science = study.train_science(name)
        training = self.spec.training
        size = self.science["size"]
        dtype = getattr(torch, DTYPES[training.precision])
        config = GPTNeoXConfig(**config_of(size, training.sequence_length, DTYPES[training.precision]))
        self.exported = GPTNeoXForCausalLM(config).to(dtype).eval()
        self.trained = GPTNeoX(self.spec.size, size["padded_vocabulary"], training.sequence_length).to(dtype).eval()
        generator = torch.Generator().manual_seed(1)
        shape = (PROBE_ROWS, training.sequence_length)
        self.probe = torch.randint(0, study.file.data.tokenizer.vocabulary, shape, generator=generator)

    def convert(self, step: int) -> None:
        """Write models/<run>/step<N>/ with its manifest last; raises UserError if the logits differ."""
        from scripts.convert.neox import read_layers, to_transformers

        started = time.time()
        source = Path("checkpoints") / self.name / f"global_step{step}"
        checked = manifest.verify(source / manifest.NAME, "checkpoint")
        if checked["subject"] != {"run": self.name, "step": step}:
            raise UserError(f"{source}: its manifest is of {checked['subject']}")
        layers = self.science["size"]["layers"]
        found = read_layers(source, layers)
        self.exported.load_state_dict(to_transformers(found, layers), strict=True)
        difference = self.difference(found)
        if not difference <= TOLERANCE[self.spec.training.precision]:
            raise UserError(f"{source}: converted logits differ from the trainer's by {difference}")
        target = Path("models") / self.name / f"step{step}"
        self.write(target, step)
        manifest.write(
            target / manifest.NAME,
            kind="model",
            subject={"run": self.name, "step": step},
            science={"size": self.science["size"], "precision": self.spec.training.precision},
            files=[path for path in target.iterdir() if path.name not in (manifest.NAME, "record.json")],
            parents=[source / manifest.NAME, TOKENIZER / manifest.NAME],
            facts={"max_logit_difference": difference},
            started=started,
        )

    def difference(self, found: dict[int, dict[str, Any]]) -> float:
        """Largest |logit difference| between the trainer's layers and the exported model on the probe rows."""
        for index, module in self.trained.numbered().items():
            module.load_state_dict(found[index], strict=True)
        with self.torch.no_grad():
            logits = self.trained(self.probe)
            return float((self.exported(self.probe).logits.float() - logits.float()).abs().max())

    def write(self, target: Path, step: int) -> None:
        """Save model and tokenizer into a folder beside the target, then swap it in."""
        draft = target.with_name(f".step{step}.{os.getpid()}.tmp")
        shutil.rmtree(draft, ignore_errors=True)
        self.exported.save_pretrained(draft)
        for path in sorted(TOKENIZER.iterdir()):
            if path.name not in (manifest.NAME, "record.json"):
                shutil.copyfile(path, draft / path.name)
        spec = self.spec
        write_json(
            draft / "castalia.json",
            {
                "run": self.name,
                "step": step,
                "corpus": spec.corpus,
                "init_seed": spec.init_seed,
                "data_seed": spec.data_seed,
            },
        )
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--run", required=True, help="name of the run")
    parser.add_argument("--steps", type=int, nargs="+", required=True, help="saved steps to convert")
    arguments = parser.parse_args()
    study = load(arguments.study)
    study.check_steps(arguments.run, arguments.steps)
    manifest.read(TOKENIZER / manifest.NAME, "tokenizer")
    converter = Converter(study, arguments.run)
    with progress(f"convert {arguments.run}", len(arguments.steps), "checkpoints") as tell:
        for done, step in enumerate(arguments.steps, start=1):
            converter.convert(step)
            tell(done)


if __name__ == "__main__":
    run(main)
