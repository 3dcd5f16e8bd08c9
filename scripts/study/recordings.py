"""The recordings that a study asks of a run: steps, tensors by name and shape, and bytes, told without torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from math import prod
from typing import Any

from scripts.common.errors import UserError, explain, near
from scripts.study.catalogue import Size
from scripts.study.config.recordings import Recording
from scripts.study.config.study_file import Runtime, StudyFile
from scripts.study.runs import Run

OF_PARAMETERS = {"gradient", "adam_moments", "update"}
MOMENTS = ("exp_avg", "exp_avg_sq")
STATISTICS = ("norm", "mean", "std", "min", "max", "zero_fraction", "kurtosis")
COLUMNS = {"norm": STATISTICS[:1], "statistics": STATISTICS}
LOSSES_TABLE, STATISTICS_TABLE = "losses", "statistics"
WIDTH = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes of a number that a module gives out
NUMBER = 28  # bytes of a reduced number: as text while training, and in the table
LOSS = 16  # bytes of a sequence's loss, the same way
WHICH = ("recording", "steps", "around", "every")  # settings that choose what is recorded, and change none of it
SHOWN = 12  # names in a refusal


def parameter_shapes(size: Size, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Shapes of the model's parameters by NeoX's names, in the model's order."""
    width = size.width
    shapes: dict[str, tuple[int, ...]] = {}

    def linear(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.weight"] = (outputs, inputs)
        shapes[f"{name}.bias"] = (outputs,)

    def norm(name: str) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    shapes["0.word_embeddings.weight"] = (vocabulary, width)
    for block in range(2, size.layers + 2):
        norm(f"{block}.input_layernorm")
        linear(f"{block}.attention.query_key_value", width, 3 * width)
        linear(f"{block}.attention.dense", width, width)
        norm(f"{block}.post_attention_layernorm")
        linear(f"{block}.mlp.dense_h_to_4h", width, 4 * width)
        linear(f"{block}.mlp.dense_4h_to_h", 4 * width, width)
    norm(f"{size.layers + 3}.norm")
    shapes[f"{size.layers + 4}.final_linear.weight"] = (vocabulary, width)
    return shapes


def module_widths(size: Size) -> dict[str, int]:
    """Last dimension of what each module gives out, [sequences, tokens, width], by name; not of the output layer, whose
    logits training never holds at once."""
    widths = {"0": 1, "0.word_embeddings": 1}
    for block in range(2, size.layers + 2):
        inside = {"input_layernorm": 1, "attention": 1, "attention.query_key_value": 3, "attention.dense": 1,
                  "post_attention_layernorm": 1, "mlp": 1, "mlp.dense_h_to_4h": 4, "mlp.dense_4h_to_h": 1}  # fmt: skip
        widths |= {str(block): 1} | {f"{block}.{name}": times for name, times in inside.items()}
    widths |= {f"{size.layers + 3}": 1, f"{size.layers + 3}.norm": 1}
    return {name: times * size.width for name, times in widths.items()}


@dataclass(frozen=True)
class RunRecording:
    """One recording of one run."""

    name: str
    asked: Recording
    run: Run
    vocabulary: int

    @property
    def key(self) -> str:
        """Its place in the study file."""
        return f"recordings.{self.name}"

    @property
    def last(self) -> int:
        """The last step that it can be of."""
        return self.run.training.steps - self.asked.of_own_batch

    @cached_property
    def steps(self) -> Sequence[int]:
        """The steps, increasing."""
        first, asked = self.run.first_step, self.asked
        if asked.around is not None:
            step, reach = asked.around
            return range(max(first, step - reach), min(self.last, step + reach) + 1)
        return range(first, self.last + 1, asked.every) if asked.every else tuple(asked.steps or ())

    @cached_property
    def parameters(self) -> dict[str, tuple[int, ...]]:
        """The parameters chosen, with their shapes."""
        if not OF_PARAMETERS & set(self.asked.what):
            return {}
        shapes = parameter_shapes(self.run.size, self.vocabulary)
        return {name: shape for name, shape in shapes.items() if any(map(_fits(name, within=True), self.asked.layers))}

    @cached_property
    def modules(self) -> dict[str, int]:
        """The modules chosen, with the width of what they give out."""
        if "activation" not in self.asked.what:
            return {}
        widths = module_widths(self.run.size)
        return {name: width for name, width in widths.items() if any(map(_fits(name), self.asked.layers))}

    @property
    def kinds(self) -> list[str]:
        """Kinds of tensors it holds of each parameter, or module, in the order of the study file's."""
        of = {"adam_moments": MOMENTS, "loss_per_sequence": ()}
        return [kind for what in self.asked.what for kind in of.get(what, (what,))]

    @property
    def sequences(self) -> int:
        """How many sequences losses and activations are of, at most."""
        return self.asked.held_out_sequences or self.run.training.batch_size

    @property
    def has_losses(self) -> bool:
        """Whether it is of losses too."""
        return "loss_per_sequence" in self.asked.what

    @property
    def in_full(self) -> bool:
        """Whether it has a file of tensors for each step."""
        return self.asked.reduce == "full" and bool(self.kinds)

    @property
    def tensors(self) -> int:
        """Tensors of a step, or rows of its statistics."""
        return sum(len(self.names(kind)) for kind in self.kinds)

    def names(self, kind: str) -> Sequence[str]:
        """The parameters, or modules, of which it has a kind of tensors."""
        return list(self.modules if kind == "activation" else self.parameters)

    @property
    def tables(self) -> list[str]:
        """Its tables by name."""
        reduced = bool(self.kinds) and not self.in_full
        return [LOSSES_TABLE] * self.has_losses + [STATISTICS_TABLE] * reduced

    def settings(self) -> dict[str, Any]:
        """What determines it, beside the run."""
        return {"recording": self.name, **self.asked.model_dump(exclude={"runs"}, exclude_none=True)}

    def numbers(self) -> dict[str, Any]:
        """Those of its settings, and of its run's, that its numbers depend on, whichever steps are asked for."""
        return numbers_of(self.settings())

    def bytes(self) -> int:
        """What it takes on the disk."""
        return len(self.steps) * self.bytes_per_step()

    def bytes_per_step(self) -> int:
        """The same of one step."""
        losses = LOSS * self.sequences * self.has_losses
        of_modules = self.sequences * self.run.training.sequence_length * WIDTH[self.run.training.precision]
        if self.asked.reduce != "full":
            return losses + NUMBER * len(COLUMNS[self.asked.reduce]) * self.tensors
        whole = sum(4 * sum(map(prod, self.parameters.values())) for kind in self.kinds if kind != "activation")
        return losses + whole + of_modules * sum(self.modules.values())


def numbers_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those settings of a recording that its numbers depend on, whichever steps are asked for."""
    return {key: value for key, value in settings.items() if key not in WHICH}


def _fits(name: str, *, within: bool = False) -> Callable[[str], bool]:
    """Whether patterns fit a name, or, with `within`, that of a module it lies in."""
    return lambda pattern: fnmatchcase(name, pattern) or (within and fnmatchcase(name, f"{pattern}.*"))


def of_run(file: StudyFile, run: Run, vocabulary: int) -> Iterator[RunRecording]:
    """The recordings of a run that is trained here."""
    if run.external is None:
        for name, asked in file.recordings.items():
            if any(fnmatchcase(run.name, pattern) for pattern in asked.runs):
                yield RunRecording(name, asked, run, vocabulary)


def check_patterns(file: StudyFile, runs: Sequence[str]) -> None:
    """Refuse a name or pattern that no run here fits; raises UserError."""
    for name, asked in file.recordings.items():
        for pattern in asked.runs:
            if not any(fnmatchcase(run, pattern) for run in runs):
                key, known = f"recordings.{name}.runs (no run fits)", list(runs)
                guess = near(pattern, known)
                fix = f"runs: [{guess}]" if guess else None
                raise UserError(explain(key, pattern, ", ".join(known) or "none", fix))


def check(recording: RunRecording, runtime: Runtime) -> None:
    """Refuse steps beyond the run, layers that it does not have, and what compiled blocks don't show; raises
    UserError."""
    asked, run = recording.asked, recording.run
    wanted = [(asked.around or [run.first_step])[0], *(asked.steps or [])]
    if wrong := [step for step in wanted if not run.first_step <= step <= recording.last]:
        nearest = min(max(wrong[0], run.first_step), recording.last)
        fix = f"around: [{nearest}, {asked.around[1]}]" if asked.around else f"{nearest} instead of {wrong[0]}"
        allowed = f"{run.first_step} to {recording.last}{', which have a batch' * asked.of_own_batch} ({run.name})"
        raise UserError(explain(f"{recording.key}.{'around' if asked.around else 'steps'}", wrong[0], allowed, fix))
    _check_layers(recording)
    if runtime.compile and (recording.modules or (recording.has_losses and asked.held_out_sequences is None)):
        what = "activation" if recording.modules else "loss_per_sequence"
        allowed = f"gradient, adam_moments, update where runtime.compile is true, as compiled blocks don't show {what}"
        raise UserError(explain(f"{recording.key}.what", what, allowed, "compile: false"))


def _check_layers(recording: RunRecording) -> None:
    asked, size = recording.asked, recording.run.size
    parameters = list(parameter_shapes(size, recording.vocabulary)) if OF_PARAMETERS & set(asked.what) else []
    modules = list(module_widths(size)) if "activation" in asked.what else []
    lost = [pattern for pattern in asked.layers if (parameters or modules)
            and not any(_fits(name, within=True)(pattern) for name in parameters)
            and not any(_fits(name)(pattern) for name in modules)]  # fmt: skip
    for kind, known, chosen in (
        ("parameters", parameters, recording.parameters),
        ("modules", modules, recording.modules),
    ):
        if known and (lost or not chosen):
            pattern, short = (lost or asked.layers)[0], ", ".join(known[:SHOWN]) + " .." * (len(known) > SHOWN)
            guess = near(pattern, [*known, *module_widths(size)])
            fix = f"layers: [{json.dumps(guess)}]" if guess else None
            raise UserError(
                explain(f"{recording.key}.layers", pattern, f"{kind} of {recording.run.name}: {short}", fix)
            )
