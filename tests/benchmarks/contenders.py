"""Ways to train one shape: ours, a plain PyTorch loop, Hugging Face's Trainer, litgpt.

All compute a GPT-NeoX of the same size on the same tokens with fused AdamW, decay on matrices only and clipping at
1.0. Peers are set up as a user who knows them would: SDPA attention, no key-value cache, no logging, no saving.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from scripts.neox.model import GPTNeoX, initialized
from scripts.neox.weights import to_transformers, transformers_config
from scripts.study.config.study_file import Runtime
from scripts.study.runs import Run
from scripts.train import engine
from scripts.train.recipe import decay_groups

RATE = 1e-4


class Contender(Protocol):
    """Something that does an optimizer update on rows int64 [rows, seq + 1], and returns its loss."""

    def update(self, rows: Tensor) -> float: ...

    def close(self) -> None: ...


def words(run: Run, vocabulary: int, count: int, seed: int = 0) -> Tensor:
    """Sequences int64 [count, seq + 1] of tokens as often as words are (Zipf's law): what is embedded decides what the
    embedding's gradient costs."""
    often = 1 / (torch.arange(vocabulary, dtype=torch.float64) + 2.7)
    shape = count, run.training.sequence_length + 1
    generator = torch.Generator().manual_seed(seed)
    return torch.multinomial(often, shape[0] * shape[1], replacement=True, generator=generator).view(shape)


class Ours:
    """The engine and the update of scripts/train, as a training job has them."""

    def __init__(self, run: Run, vocabulary: int, runtime: Runtime, world: engine.World) -> None:
        self.engine = engine.build(run, vocabulary, runtime, world)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = RATE

    def update(self, rows: Tensor) -> float:
        return engine.update(self.engine, iter([(rows[:, :-1], rows[:, 1:])]))

    def close(self) -> None:
        """Let go of the memory: hooks would keep the engine, and it its weights."""
        self.engine.destroy()
        self.engine.optimizer = self.engine.module = None


def shape(run: Run, vocabulary: int) -> dict[str, Any]:
    """Keyword arguments of Transformers' GPTNeoXConfig."""
    size = run.size
    shape = {"padded_vocabulary": vocabulary, "width": size.width, "layers": size.layers, "heads": size.heads}
    return transformers_config(shape, run.training.sequence_length, "float32")


def transformers_model(run: Run, vocabulary: int, device: str) -> Any:
    """Transformers' GPTNeoXForCausalLM in fp32 with the first weights of ours."""
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    with torch.device("meta"):
        empty = GPTNeoX(run.size, vocabulary, run.training.sequence_length)
    ours = initialized(empty, run.size, run.init_seed, torch.float32, torch.device("cpu"))
    state = {number: module.state_dict() for number, module in ours.numbered().items()}
    with torch.device(device):
        model = GPTNeoXForCausalLM(GPTNeoXConfig(**shape(run, vocabulary), use_cache=False))
    model.load_state_dict(to_transformers(state, run.size.layers), strict=True)
    return model


def adamw(model: torch.nn.Module, run: Run) -> torch.optim.AdamW:
    """Fused AdamW with Pythia's recipe."""
    optimizer = run.training.optimizer
    groups = decay_groups(model, optimizer.weight_decay)
    return torch.optim.AdamW(groups, lr=RATE, betas=tuple(optimizer.betas), eps=optimizer.epsilon, fused=True)


class Plain:
    """The loop everybody writes; `mixed` is autocast to bf16 over fp32 weights."""

    def __init__(self, model: Any, run: Run, device: str, mixed: bool, compiled: bool) -> None:
        self.model, self.device, self.mixed = model, device, mixed
        self.adam = adamw(model, run)
        self.loss = torch.compile(self._loss, dynamic=False) if compiled else self._loss

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = self.model(inputs).logits
        return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.mixed)

    def update(self, rows: Tensor) -> float:
        rows = rows.to(self.device)
        with self.autocast():
            loss = self.loss(rows[:, :-1], rows[:, 1:])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.adam.step()
        self.adam.zero_grad()
        return loss.item()  # a loop logs its loss, as ours does

    def close(self) -> None:
        """Let go of the memory."""
        del self.model, self.adam, self.loss


class LitGpt(Plain):
    """Lightning's litgpt (0.5.13): its GPT and chunked cross-entropy in the same loop, as its `pretrain` has them."""

    def __init__(self, run: Run, vocabulary: int, device: str, mixed: bool, compiled: bool) -> None:
        from litgpt.config import Config
        from litgpt.model import GPT
        from litgpt.utils import chunked_cross_entropy

        size = run.size
        config = Config.from_name(
            "pythia-14m",
            block_size=run.training.sequence_length,
            n_layer=size.layers,
            n_head=size.heads,
            n_query_groups=size.heads,
            n_embd=size.width,
            head_size=size.head_width,
            intermediate_size=4 * size.width,
            padded_vocab_size=vocabulary,
            gelu_approximate="tanh",
        )
        with torch.device(device):
            model = GPT(config)
        model.apply(model._init_weights)
        self.cross_entropy = chunked_cross_entropy
        super().__init__(model, run, device, mixed, compiled)

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        loss: Tensor = self.cross_entropy(self.model(inputs), targets)
        return loss


class HuggingFace:
    """Hugging Face's Trainer, which walks by itself and calls back after every step.

    Make it before `engine.join_world`: from the ranks that sets in the environment it would conclude that it is one
    of several processes.
    """

    def __init__(self, model: Any, run: Run, device: str, mixed: bool, rows: int, steps: int) -> None:
        from transformers import Trainer, TrainerCallback, TrainingArguments

        self.after: Callable[[int], None] = lambda _: None
        told = self

        class Tell(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                told.after(state.global_step)

        optimizer = run.training.optimizer
        folder = tempfile.gettempdir()  # nothing is written there
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=rows,
            max_steps=steps,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            optim="adamw_torch_fused",
            weight_decay=optimizer.weight_decay,
            adam_beta1=optimizer.betas[0],
            adam_beta2=optimizer.betas[1],
            adam_epsilon=optimizer.epsilon,
            max_grad_norm=1.0,
            bf16=mixed,
            use_cpu=device == "cpu",
            dataloader_pin_memory=device != "cpu",
            logging_strategy="no",
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        tokens = words(run, model.config.vocab_size, rows * steps)[:, :-1]
        data = [{"input_ids": row, "labels": row} for row in tokens]
        self.trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=[Tell()])

    def train(self, after: Callable[[int], None]) -> float:
        """Train to the end; `after` is called with the number of each finished step. Returns the mean loss."""
        self.after = after
        loss: float = self.trainer.train().training_loss
        return loss
