"""Write results/index.html: the study's first page, in one file that opens without a network, and results/data.html.

What was made, the findings in words with those that did not hold, the figures, the runs, and how to go on.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from scripts.common.command import Parser
from scripts.common.files import read_json, write_text
from scripts.common.units import short
from scripts.report.made import Made, count, in_words, thousands
from scripts.report.pages.compare import comparison_page, read
from scripts.report.pages.data import data_page
from scripts.report.pages.drawn import figure, finding, present, science_table
from scripts.report.pages.environment import rendered
from scripts.report.pages.external import external_page
from scripts.report.pages.memorization import FIGURES as OF_MEMORIZATION
from scripts.report.pages.memorization import memorization_page
from scripts.report.pages.memory import section as memory_section
from scripts.report.pages.opening import grid, sentences
from scripts.study import analyses, paths, targets
from scripts.study.sampling import recency_runs
from scripts.study.stages import CONVERT, OF_EVERY_RUN
from scripts.study.study import Study, load

PAGE = Path(__file__).with_name("index.html")
OPENING = "overview"
SCORES = ("held_out_size", "loss", "held_out_step", "held_out_component", "held_out_component_step", "evals",
          "evals_size", "evals_heat")  # fmt: skip
LATER = ("memorization_size", "memorization_step", "learning_rate", "gradient_norm", "speed", "corpora", "timings")
COLUMNS = (
    ("run", False), ("size", False), ("corpus", False), ("init seed", True), ("data seed", True), ("parameters", True),
    ("tokens", True), ("training loss", True), ("held-out loss", True),
)  # fmt: skip
SUMMARY = "not_as_in_pythia"
GENERATIONS = "generations"  # the table of the science with text that models wrote


def page(study: Study, made: Made) -> str:
    """The page's HTML; raises UserError that names a missing input."""
    found: list[dict[str, Any]] = read_json(present(paths.FINDINGS))
    columns, runs = grid(study)
    places = dict.fromkeys(OF_MEMORIZATION, paths.page("memorization").name) | dict.fromkeys(shown(study), "")
    told = [finding(each, places) for each in found if each["id"] != SUMMARY]
    run_name = _model_to_show(study)
    return rendered(
        PAGE,
        study=study.file.study,
        opening=[{**figure(OPENING), "caption": ""}],
        sentences=sentences(found),
        columns=columns,
        grid=runs,
        expected=[each for each in told if each["expectation"] is not None and not each["check"]],
        checks=[each for each in told if each["check"]],
        facts=[each for each in told if each["expectation"] is None],
        science=[analysis.question for analysis in analyses.asked(study)],
        figures=[figure(name) for name in shown(study) if name != OPENING],
        generations=science_table(GENERATIONS),
        lead=in_words(study, made),
        tiles=tiles(study, made),
        run_columns=COLUMNS,
        runs=run_rows(present(paths.table("runs"))),
        memory=memory_section(study),
        snippet=snippet(run_name, study.steps(run_name)[-1]),
        files=files(run_name, study.steps(run_name)[-1]),
    )


def shown(study: Study) -> list[str]:
    """Figures of the page, in order: those listed, and after the scores any other that has no page of its own."""
    others = [name for name in targets.figures(study) if name not in (OPENING, *SCORES, *LATER, *OF_MEMORIZATION)]
    return [OPENING, *SCORES, *others, *LATER, *(["recency"] if recency_runs(study) else [])]


def tiles(study: Study, made: Made) -> list[tuple[str, str]]:
    """Numbers for the head of the page."""
    shown = [
        (str(len(study.runs)), "runs"),
        (thousands(made.outputs[CONVERT.name]), "models, one a saved step"),
        (short(made.tokens), "tokens trained on"),
        *((thousands(made.outputs[stage.name]), stage.noun) for stage in OF_EVERY_RUN[2:] if stage.asked(study)),
    ]
    if made.seconds is not None:
        shown.append((f"{made.seconds / 60:,.1f} min", "of jobs, side by side"))
    return shown


def run_rows(path: Path) -> list[list[str]]:
    """Cells of the table of runs, as `COLUMNS` names them."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return [
        [
            row["run"], row["size"], row["corpus"], row["init_seed"], row["data_seed"],
            thousands(int(row["parameters"])), thousands(int(row["tokens"])),
            f"{float(row['training_loss']):.3f}", f"{float(row['held_out_loss']):.3f}",
        ]
        for row in rows
    ]  # fmt: skip


def snippet(name: str, step: int) -> str:
    """Three lines that load a model, and one that uses it."""
    folder = paths.model(name, step)
    return (
        "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{folder}")\n'
        f'model = AutoModelForCausalLM.from_pretrained("{folder}")\n'
        'prompt = tokenizer("The people of the United States", return_tensors="pt")\n'
        "print(tokenizer.decode(model.generate(**prompt, max_new_tokens=40)[0]))"
    )


def files(name: str, step: int) -> list[tuple[str, str]]:
    """Paths of the study and what lies there."""
    order = paths.order("<corpus>", "<seed>").name
    return [
        (f"{paths.model(name, step)}/", "a Transformers model; every run and saved step has one"),
        (f"{paths.checkpoint(name, step)}/", "the trainer's own checkpoint in GPT-NeoX layout, with a manifest"),
        (
            f"{paths.corpus('<corpus>')}/",
            f"tokens in Megatron .bin/.idx, documents with their origin; {order}/: the row order",
        ),
        (f"{paths.TABLES}/", "tidy tables, Parquet and CSV, every row with its run, size, corpus and seeds"),
        (f"{paths.FIGURES}/", "the figures as Vega-Lite with their data, as SVG, and overview.png"),
        (f"{paths.EVALUATIONS}/, {paths.MEMORIZATION}/", "scores of each checkpoint, item by item and row by row"),
        (str(paths.FINDINGS), "the sentences above with the numbers they rest on"),
        (str(paths.page("report")), "Snakemake's report: every job, its inputs, software and time"),
        (str(paths.STUDY), "the study as it was run"),
    ]


def _model_to_show(study: Study) -> str:
    """The first run of the largest size."""
    return max(study.runs.values(), key=lambda spec: spec.size.non_embedding_parameters).name


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    study = load(parser.parse_args().study)
    pages = {paths.page("compare"): comparison_page(f"the {study.file.study} study", read(Path()), back=True)}
    if study.trained:
        found = read_json(present(paths.FINDINGS))
        pages |= {
            paths.page("index"): page(study, count(study)),
            paths.page("data"): data_page(study, present(paths.table("corpora")), found),
            paths.page("memorization"): memorization_page(study, found),
        }
    else:
        pages[paths.page("index")] = external_page(study)
    for path, text in pages.items():
        write_text(path, text)
    print(", ".join(map(str, pages)))
