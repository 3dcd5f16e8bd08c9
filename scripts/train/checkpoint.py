"""Native checkpoints in NeoX layout, and the rolling state a killed run resumes from.

A save first makes a complete native checkpoint under `resume/`, whose manifest comes last; a scheduled
step is then published as `global_step<N>/` by hard links to those files, without the optimizer state
where the retention policy drops it. Only then is the older resume state deleted. So a kill at any moment
leaves one whole resume state, and nothing half-written carries a manifest.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch.distributed
import yaml

from scripts.common import manifest
from scripts.common.errors import FULL, UserError
from scripts.common.files import sha256_file, write_text
from scripts.common.manifest import Manifest
from scripts.neox.files import refuse_code
from scripts.study import paths
from scripts.study.catalogue import ROTARY_BASE, ROTARY_FRACTION, VOCABULARY_MULTIPLE
from scripts.study.manifests import (
    CheckpointFacts,
    Repartition,
    RepartitionedFacts,
    RepartitionedResumeFacts,
    ResumeFacts,
    StepsTaken,
    repartitions,
)
from scripts.study.runs import BASE_SEED, Run
from scripts.train.engine import World
from scripts.train.world import together

OPTIMIZER_FILES = "*zero_pp_rank_*"  # DeepSpeed puts "bf16_" before some
MODEL_FILE = "mp_rank_00_model_states.pt"  # without ZeRO the optimizer state is in it
SAVING = ".saving"
READ = (0, 1, 2)  # ZeRO stages whose files scripts/neox merges; in those of stage 3 each tensor is cut by itself
SAVED = f"{paths.global_step('*')}/{manifest.NAME}"  # whole states, below their folder


def step_of(path: Path) -> int:
    """The step of a manifest in global_step<N>/."""
    return int(path.parent.name.removeprefix(paths.global_step("")))


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run, in checkpoints/<run>/."""

    root: Path
    run: Run
    settings: dict[str, Any]
    parents: list[Path]
    world: World
    zero_stage: int
    repartition: bool = False  # whether a state that was cut up otherwise is taken
    repartitioned: list[Repartition] = field(default_factory=list)  # so far, which what is saved tells

    @property
    def resume(self) -> Path:
        """Folder of the rolling state."""
        return self.root / paths.RESUME

    @property
    def split(self) -> tuple[int, int]:
        """What DeepSpeed can load an optimizer state by only: as many processes and the same ZeRO stage."""
        return self.world.size, self.zero_stage

    def fits(self, facts: ResumeFacts | CheckpointFacts) -> bool:
        """Whether a state is cut up as this job is."""
        return (facts.processes, facts.zero_stage) == self.split

    def newest_resume(self) -> tuple[int, Manifest[ResumeFacts]] | None:
        """Step and manifest of the newest whole resume state, or None; damaged files raise UserError."""
        found = sorted((step_of(path), path) for path in self.resume.glob(SAVED))
        if not found:
            return None
        step, path = found[-1]
        share = self.world.rank, self.world.size
        return step, together(lambda: manifest.verify(path.parent, ResumeFacts, share=share))[0]

    def check_split(self, path: Path, facts: ResumeFacts | CheckpointFacts) -> None:
        """Refuse a state that was cut up for other processes, unless the study asks to cut it up anew; raises
        UserError."""
        if self.fits(facts) or (self.repartition and facts.zero_stage in READ):
            return
        keys = ("runtime.processes", "runtime.zero_stage")
        for key, there, here in zip(keys, (facts.processes, facts.zero_stage), self.split, strict=True):
            if there != here:
                name = key.removeprefix("runtime.")
                other = "\n  or:      repartition: true, to have it cut up anew"
                raise UserError(
                    f"{path}: this state of the optimizer is cut up for {key} {there}, this job has {here}; other "
                    f"numbers would also end in other last digits\n  write:   {name}: {there}"
                    + other
                    * (facts.zero_stage in READ)
                )

    def save(self, engine: Any, step: int, lengths: dict[str, int]) -> None:
        """Write the complete native state of `step` under resume/, manifest last, with the lengths in bytes of the
        run's logs. Every rank calls this.

        Raises UserError if the disk is full, or the weights are no numbers any more; the state before is whole then.
        """
        if not all(together(lambda: sound(engine.module))):
            raise UserError(
                f"{self.run.name}: weights are infinite or no numbers after step {step}, which is not saved; the state "
                f"before it is kept in {self.resume}, if there was one"
            )
        try:
            self._save(engine, step, lengths)
        except (OSError, RuntimeError) as error:  # torch's writer tells a full disk as a RuntimeError
            if getattr(error, "errno", None) not in FULL and shutil.disk_usage(self.root).free > self._last_size():
                raise
            shutil.rmtree(self.resume / SAVING, ignore_errors=True)
            # the other ranks may wait in another exchange: nothing here may take part in one
            last = max(map(step_of, self.resume.glob(SAVED)), default=None)
            kept = "nothing is saved yet" if last is None else f"the state of step {last} is whole"
            raise UserError(
                f"{self.resume}: the disk is full, step {step} could not be saved; {kept}\n  make room and run it again"
            ) from None

    def _last_size(self) -> int:
        """Bytes of the resume states there are; 1 MB if there is none."""
        return sum(path.stat().st_size for path in self.resume.rglob("*") if path.is_file()) or 10**6

    def _save(self, engine: Any, step: int, lengths: dict[str, int]) -> None:
        saving = self.resume / SAVING
        if self.world.rank == 0:
            shutil.rmtree(saving, ignore_errors=True)
            saving.mkdir(parents=True)
        torch.distributed.barrier()
        engine.save_checkpoint(
            str(self.resume), tag=SAVING, client_state=client_state(self.run, self.settings, step), save_latest=False
        )
        configs = saving / "configs"
        if self.world.rank == 0:
            configs.mkdir()
            write_text(configs / f"{self.run.name}.yml", neox_yaml(self.run, self.settings))
        torch.distributed.barrier()
        files = sorted(path for path in saving.rglob("*") if path.is_file())
        mine = files[self.world.rank :: self.world.size]
        sums = {path: digest for share in together(lambda: dict(map(_to_disk, mine))) for path, digest in share.items()}
        if self.world.rank == 0:
            self._seal(saving, step, lengths, sums)
        torch.distributed.barrier()

    def _seal(self, saving: Path, step: int, lengths: dict[str, int], sums: dict[Path, str]) -> None:
        folder = self.resume / paths.global_step(step)
        shutil.rmtree(folder, ignore_errors=True)
        saving.rename(folder)
        known = {folder / path.relative_to(saving): digest for path, digest in sums.items()}
        facts = ResumeFacts(lengths, *self.split)
        if self.repartitioned:
            facts = RepartitionedResumeFacts(**vars(facts), repartitioned=self.repartitioned)
        manifest.write(
            folder,
            facts,
            subject={"run": self.run.name, "step": step},
            settings=self.settings,
            files=known,
            known=known,
        )

    def promote(self, step: int, keep_optimizer: bool, sample_indices: tuple[int, int], taken: StepsTaken) -> None:
        """Link the resume state of `step` as the scheduled checkpoint global_step<N>, manifest last; it tells of the
        steps since the one before, and which sequences of the order they read."""
        source, target = self.resume / paths.global_step(step), self.root / paths.global_step(step)
        shutil.rmtree(target, ignore_errors=True)
        dropped = set() if keep_optimizer else set(source.glob(OPTIMIZER_FILES))
        saved = manifest.read(source, ResumeFacts)  # after a kill it may be one of another split than this job's
        known = {target / name: named.sha256 for name, named in saved.files.items() if source / name not in dropped}
        for path in known:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(source / path.relative_to(target), path)
        if not keep_optimizer and saved.facts.zero_stage == 0:
            known[target / MODEL_FILE] = _without_optimizer(target / MODEL_FILE)
        facts = CheckpointFacts(
            **vars(taken),
            sample_indices=sample_indices,
            optimizer_state=keep_optimizer,
            processes=saved.facts.processes if keep_optimizer else None,
            zero_stage=saved.facts.zero_stage if keep_optimizer else None,
        )
        if done := repartitions(saved.facts):
            facts = RepartitionedFacts(**vars(facts), repartitioned=done)
        manifest.write(
            target,
            facts,
            subject={"run": self.run.name, "step": step},
            settings=self.settings,
            files=known,
            known=known,
            parents=self.parents_of(step),
        )
        write_text(self.root / "latest", paths.global_step(step))

    def parents_of(self, step: int) -> list[Path]:
        """The folder of the previous scheduled checkpoint; for step 0 the corpus and the order."""
        earlier = [other for other in self.settings["steps"] if other < step]
        return [self.root / paths.global_step(earlier[-1])] if earlier else self.parents

    def promoted(self, step: int) -> bool:
        """Whether the scheduled checkpoint of `step` is complete."""
        return (self.root / paths.global_step(step) / manifest.NAME).exists()

    def tidy(self, step: int) -> None:
        """What a kill after the last manifest may have left undone: `latest`, and older resume states."""
        if saved := sorted(map(step_of, self.root.glob(SAVED))):
            write_text(self.root / "latest", paths.global_step(saved[-1]))
        self.drop_resume_before(step)

    def drop_resume_before(self, step: int) -> None:
        """Delete resume states older than `step`."""
        for folder in self.resume.glob(paths.global_step("*")):
            if int(folder.name.removeprefix(paths.global_step(""))) < step:
                shutil.rmtree(folder)


def sound(model: torch.nn.Module) -> bool:
    """Whether all weights this process holds are finite numbers."""
    held = (getattr(parameter, "ds_tensor", parameter) for parameter in model.parameters())
    return all(bool(torch.isfinite(tensor).all()) for tensor in held)


def load(engine: Any, folder: Path, step: int) -> None:
    """Load weights and optimizer state of `step` into the engine.

    Raises UserError if it holds another step, or anything but numbers: whose hashes are right may still be anybody's.
    """
    share = engine.global_rank, engine.dp_world_size
    together(lambda: refuse_code(folder / paths.global_step(step), share))
    engine.load_checkpoint(str(folder), tag=paths.global_step(step))
    if engine.global_steps != step:
        raise UserError(f"{folder / paths.global_step(step)}: holds step {engine.global_steps}")


def client_state(run: Run, settings: dict[str, Any], step: int) -> dict[str, Any]:
    """What gpt-neox adds to DeepSpeed's own state (megatron/checkpointing.py)."""
    size = settings["size"]
    arguments = {
        "num_layers": size["layers"],
        "hidden_size": size["width"],
        "num_attention_heads": size["heads"],
        "max_position_embeddings": run.training.sequence_length,
        "make_vocab_size_divisible_by": VOCABULARY_MULTIPLE * run.size.tensor_parallel,
        "padded_vocab_size": size["padded_vocabulary"],
        "tokenizer_type": "HFTokenizer",
        "model_parallel_size": 1,
    }
    return {"iteration": step, "args": arguments}


def neox_yaml(run: Run, settings: dict[str, Any]) -> str:
    """The resolved recipe under gpt-neox's keys."""
    size, training = settings["size"], run.training
    rate, optimizer = training.learning_rate, training.optimizer
    wang = size["init"] == "small-wang"
    keys: dict[str, Any] = {
        "num-layers": size["layers"],
        "hidden-size": size["width"],
        "num-attention-heads": size["heads"],
        "seq-length": training.sequence_length,
        "max-position-embeddings": training.sequence_length,
        "pos-emb": "rotary",
        "rotary-pct": ROTARY_FRACTION,
        "rotary-emb-base": ROTARY_BASE,  # gpt-neox's converter takes 1000 where it is left out, its trainer 10000
        "layernorm-epsilon": 1.0e-5,
        "no-weight-tying": True,
        "gpt-j-residual": True,
        "output-layer-parallelism": "column",
        "norm": "layernorm",
        "bias-gelu-fusion": True,
        "init_method": "small_init" if wang else "normal",
        "output_layer_init_method": "wang_init" if wang else "scaled_normal",
        "optimizer": {"type": "Adam", "params": {"lr": run.peak, "betas": optimizer.betas, "eps": optimizer.epsilon}},
        "lr-decay-style": "cosine" if rate.schedule != "constant" else "constant",
        "min_lr": run.peak * rate.floor_fraction,
        "warmup": rate.warmup_fraction,
        "weight-decay": optimizer.weight_decay,
        "gradient_clipping": optimizer.gradient_clipping,
        "train_batch_size": training.batch_size,
        "train-iters": training.steps,
        "lr-decay-iters": training.steps,
        "hidden-dropout": 0,
        "attention-dropout": 0,
        "precision": training.precision,
        "seed": run.init_seed,
        "pipe-parallel-size": 1,
        "model-parallel-size": 1,
        "tokenizer-type": "HFTokenizer",
        "vocab-file": str(paths.VOCABULARY),
        # for one rank; as many rows as Pythia's tensor-parallel ranks made of the same vocabulary
        "make-vocab-size-divisible-by": VOCABULARY_MULTIPLE * run.size.tensor_parallel,
        "castalia": {  # what NeoX has no key for
            "run": run.name,
            "data-seed": run.data_seed,
            "lr-curve": rate.schedule,
            "published-seed": run.init_seed == BASE_SEED,
        },
    }
    return yaml.safe_dump(keys, sort_keys=False)


def _without_optimizer(path: Path) -> str:
    """Replace the file by a copy without the optimizer state, its other names untouched; the sha256 of the copy."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    draft = path.with_name(f".{path.name}")
    torch.save({**state, "optimizer": None}, draft)
    draft.rename(path)
    return _to_disk(path)[1]


def _to_disk(path: Path) -> tuple[Path, str]:
    """Wait until the file is on the disk; its path and sha256."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
    return path, sha256_file(path)
