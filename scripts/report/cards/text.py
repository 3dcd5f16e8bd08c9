"""The text of a run's model card: markdown made of plain facts, every number from a file of the study."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from scripts.neox.architecture import DTYPES
from scripts.study import paths
from scripts.study.catalogue import ROTARY_FRACTION
from scripts.study.manifests import CorpusFacts
from scripts.study.runs import Run

Row = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """What a card tells. Tables are lists of plain rows; those that the study did not make are empty."""

    run: Run
    study: str
    licence: str
    vocabulary: int  # tokens
    padded_vocabulary: int
    steps: list[int]
    optimizer_steps: list[int]
    family: list[tuple[str, Run, int]]  # every run of the study: its name, itself, its parameters
    old_names: dict[str, str]  # what the suite of 2022 called a size
    corpus: CorpusFacts | None = None  # of its manifest
    final: Row = field(default_factory=dict)  # the run's row of the table of runs
    evals: list[Row] = field(default_factory=list)  # of the last step that was scored
    memorization: list[Row] = field(default_factory=list)  # likewise
    logits: float | None = None  # largest difference to the trainer's
    source: str | None = None  # where a published run's weights are from
    figures: dict[str, str] = field(default_factory=dict)  # of this run alone: file name and what it shows


def text(card: Card) -> str:
    """The whole card."""
    parts = [
        front(card),
        f"# {card.run.name}\n\n{opening(card)}",
        f"## Model\n\n{engineering(card)}",
        f"## How to load\n\n{loading(card)}",
        f"## Training\n\n{training(card)}",
        f"## Evaluation\n\n{evaluation(card)}",
        f"## Memorization\n\n{memorized(card)}" if card.memorization else "",
        f"## Names\n\n{naming(card)}",
        f"## Limits\n\n{limits(card)}",
        f"## Licence\n\n{licence(card)}",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def front(card: Card) -> str:
    """What the hub reads of a card: YAML between two lines of dashes."""
    tags = ["pytorch", "causal-lm", "gpt_neox", "castalia", card.study]
    lines = ["library_name: transformers", "pipeline_tag: text-generation"]
    lines += [] if card.source else [f"license: {card.licence.lower()}"]
    return "\n".join(["---", *lines, "tags:", *(f"- {tag}" for tag in tags), "---"])


def opening(card: Card) -> str:
    """What it is, in two or three sentences."""
    run, parameters = card.run, parameters_of(card, card.run.name)
    what = f"A GPT-NeoX language model of {parameters:,} parameters"
    if card.source:
        return f"{what}, published by others ({card.source}) and examined in the study `{card.study}`."
    others = len(card.family) - 1
    return (
        f"{what}, trained from scratch on {number(run.steps_trained * tokens_a_step(run))} tokens of the corpus "
        f"`{run.corpus}`: one of {others + 1} runs of the study `{card.study}`, which Castalia trained, converted, "
        f"evaluated and wrote this card for. {len(card.steps)} of its checkpoints are revisions of this repository, "
        f"`step{card.steps[0]}` to `step{card.steps[-1]}`; `main` is the last."
    )


def engineering(card: Card) -> str:
    """The engineering table and the exact counts."""
    run, size = card.run, card.run.size
    total = parameters_of(card, run.name)
    peak = "not known" if card.source else f"{run.peak:g}"
    header = [
        "Model", "Non-embedding parameters", "Layers", "Model dim", "Heads", "Batch size", "Learning rate", "Precision",
    ]  # fmt: skip
    row = [
        run.name, f"{size.non_embedding_parameters:,}", size.layers, size.width, size.heads,
        f"{number(tokens_a_step(run))} tokens", peak, DTYPES[run.training.precision],
    ]  # fmt: skip
    embedding = 2 * card.padded_vocabulary * size.width
    exact = [
        f"- {total:,} parameters: {size.non_embedding_parameters:,} and two untied embeddings of "
        f"{card.padded_vocabulary:,} x {size.width:,} ({embedding:,}).",
        f"- Vocabulary: {card.vocabulary:,} tokens; {card.padded_vocabulary - card.vocabulary:,} rows of padding "
        "that no text uses.",
        f"- Context: {run.training.sequence_length:,} tokens; heads of width {size.head_width}, of which "
        f"{size.rotary_width} dimensions ({ROTARY_FRACTION:.0%}) are rotated; attention and MLP in parallel.",
    ]
    return table(header, [row]) + "\n\n" + "\n".join(exact)


def loading(card: Card) -> str:
    """Code that loads a step, from the hub and from this study's folder."""
    name, step = card.run.name, card.steps[-1]
    return (
        "```python\n"
        "from transformers import GPTNeoXForCausalLM, AutoTokenizer\n\n"
        f'model = GPTNeoXForCausalLM.from_pretrained("<owner>/{name}", revision="step{step}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("<owner>/{name}", revision="step{step}")\n\n'
        'inputs = tokenizer("Hello, I am", return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**inputs)[0]))\n"
        "```\n\n"
        f"In the folder of the study the same step is `{paths.model(name, step)}`. "
        f"Revisions: {', '.join(f'`step{step}`' for step in shortened(card.steps))}."
    )


def training(card: Card) -> str:
    """Data, steps, batch, schedule, seeds, and what the checkpoints hold."""
    if card.source:
        return f"Not trained here; see {card.source}."
    run, recipe = card.run, card.run.training
    rate, optimizer = recipe.learning_rate, recipe.optimizer
    lines = [
        f"- Steps: {run.steps_trained:,} of {recipe.batch_size:,} sequences of {recipe.sequence_length:,} tokens, "
        f"{number(run.steps_trained * tokens_a_step(run))} tokens in all"
        + (f", {epochs:.2f} passes over the corpus." if (epochs := passes(card)) else "."),
        f"- Corpus `{run.corpus}`"
        + (f": {card.corpus.documents:,} documents, {card.corpus.tokens:,} tokens." if card.corpus else "."),
        *(
            f"  - {name}: {held.documents:,} documents, {held.tokens:,} tokens"
            for name, held in sorted(card.corpus.components.items() if card.corpus else ())
            if held.tokens
        ),
        f"- Learning rate: `{rate.schedule}`, peak {run.peak:g}, warm-up over {rate.warmup_fraction:.0%} of the steps, "
        f"floor at {rate.floor_fraction:.0%} of the peak.",
        f"- Optimizer: AdamW, betas {optimizer.betas[0]:g} and {optimizer.betas[1]:g}, epsilon {optimizer.epsilon:g}, "
        f"weight decay {optimizer.weight_decay:g}, gradients clipped at norm {optimizer.gradient_clipping:g}.",
        f"- Seeds: {run.init_seed} of the initial weights (`{run.size.init}`), {run.data_seed} of the sequence order.",
        f"- Precision: {DTYPES[recipe.precision]}, and the weights are published in it.",
        f"- Checkpoints: {len(card.steps)}; optimizer state is kept of "
        f"{', '.join(map(str, shortened(card.optimizer_steps)))}.",
    ]
    if run.origin:
        lines.append(f"- Goes on from step {run.origin.step} of {run.origin.run or run.origin.folder}: "
                     f"the intervention `{run.origin.intervention}`.")  # fmt: skip
    if card.final:
        lines.append(f"- Loss at the end: {card.final['training_loss']:.4f} nats per token in training, "
                     f"{card.final['held_out_loss']:.4f} on held-out text.")  # fmt: skip
    if card.logits is not None:
        lines.append(f"- Conversion: logits of this model differ from the trainer's by at most {card.logits:.2g}.")
    return "\n".join(lines)


def evaluation(card: Card) -> str:
    """Scores of the last step that was scored, and the figures."""
    if not card.evals:
        return "Not evaluated in this study."
    header = ["task", "shots", "metric", f"step {card.evals[0]['step']}", "standard error", "items"]
    rows = [
        [row["task"], row["shots"], row["metric"], f"{row['value']:.4f}", shown(row["stderr"]), row["n"] or ""]
        for row in card.evals
    ]
    pictures = [f"![{what}](figures/{name}.svg)\n\n{what}" for name, what in card.figures.items()]
    return "\n\n".join([table(header, rows), *pictures])


def memorized(card: Card) -> str:
    """Shares of memorized sequences at the last step that was scored."""
    header = ["sequences", "seen", "scored", "memorized", "fraction", "mean score"]
    rows = [
        [row["chosen"], "yes" if row["seen"] else "no", row["sequences"], row["memorized"], f"{row['fraction']:.2%}",
         f"{row['mean_score']:.4f}"]
        for row in card.memorization
    ]  # fmt: skip
    return (
        table(header, rows) + f"\n\nAt step {card.memorization[0]['step']}. A sequence is memorized if greedy "
        "continuation of its beginning gives the rest token by token; the score is the fraction of equal tokens."
    )


def naming(card: Card) -> str:
    """Every run of the study with its counts, and the name its size had in the suite of 2022."""
    header = ["run", "size", "parameters", "non-embedding parameters", "name in 2022"]
    old = {size: f"pythia-{name}" for size, name in card.old_names.items()}
    rows = [
        [f"**{name}**" if name == card.run.name else name, run.size.name, f"{total:,}",
         f"{run.size.non_embedding_parameters:,}", old.get(run.size.name, "")]
        for name, run, total in card.family
    ]  # fmt: skip
    return table(header, rows)


def limits(card: Card) -> str:
    """What not to expect."""
    run = card.run
    lines = [
        "- A base model for research on training and memorization: not tuned to follow instructions, not made safe, "
        "and not to be deployed as it is. What it writes is not to be relied on as fact.",
        "- It repeats what its corpus holds, the biases and errors of its texts among it.",
        f"- It has seen nothing longer than {run.training.sequence_length:,} tokens.",
    ]
    if not card.source and run.steps_trained * tokens_a_step(run) < 20 * run.size.non_embedding_parameters:
        lines.append("- Trained on fewer than 20 tokens per parameter.")
    if not card.source and run.steps_trained * tokens_a_step(run) < 10**9:
        lines.append("- Trained on less than a billion tokens: it shows how the study works, not what its size can do.")
    return "\n".join(lines)


def licence(card: Card) -> str:
    """Whose terms hold."""
    if card.source:
        return f"That of its publisher: {card.source}."
    return (
        f"The weights: {card.licence}. The texts of the corpus have licences of their own, which the study file names."
    )


# --- small things ----------------------------------------------------------------------------------


def parameters_of(card: Card, name: str) -> int:
    """All parameters of a run of the study."""
    return next(total for run, _, total in card.family if run == name)


def tokens_a_step(run: Run) -> int:
    """Tokens a step predicts."""
    return run.training.batch_size * run.training.sequence_length


def passes(card: Card) -> float | None:
    """Passes over the corpus; None where its size is not known."""
    tokens = card.corpus.tokens if card.corpus else 0
    return card.run.sequences * card.run.training.sequence_length / tokens if tokens else None


def shortened(steps: Sequence[int], most: int = 16) -> list[int | str]:
    """The steps, those between left out if they are many."""
    if len(steps) <= most:
        return list(steps)
    return [*steps[: most - 2], "...", steps[-1]]


def number(value: int) -> str:
    """409,600; 2M and 299.9B where it is large."""
    for unit, word in ((10**9, "B"), (10**6, "M")):
        if value >= unit:
            return f"{value / unit:,.1f}".removesuffix(".0") + word
    return f"{value:,}"


def shown(value: float | None) -> str:
    """A standard error, or nothing where there is none (pandas' NaN is not equal to itself)."""
    return "" if value is None or value != value else f"{value:.4f}"


def table(header: Iterable[object], rows: Iterable[Iterable[object]]) -> str:
    """A markdown table."""
    cells = [list(map(str, row)) for row in (header, *rows)]
    cells.insert(1, ["---"] * len(cells[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)
