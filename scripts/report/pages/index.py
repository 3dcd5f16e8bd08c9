"""Write results/index.html: the study's first page, in one file that opens without a network, and results/data.html.

What was made, the findings in words with those that did not hold, the figures, the runs, and how to go on.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_text
from scripts.common.units import short
from scripts.report.made import Made, count, in_words, thousands
from scripts.report.pages.data import STYLE, data_page
from scripts.report.pages.memory import section as memory_section
from scripts.report.theme import grammar
from scripts.study import paths, targets
from scripts.study.sampling import recency_runs
from scripts.study.stages import CONVERT, OF_EVERY_RUN
from scripts.study.study import Study, load

PAGE = Path(__file__).with_name("page.html")
DRAW = Path(__file__).with_name("draw.js")
MEMORIZATION = Path(__file__).with_name("memorization.html")
FIGURES = ("held_out_size", "loss", "held_out_component", "evals", "evals_size", "evals_heat", "memorization_size",
           "memorization_step", "corpora", "timings")  # fmt: skip
MEMORIZATION_FIGURES = ("memorization_step", "memorization_size", "memorization_canaries", "memorization_groups",
                        "memorization_predict", "memorization_correlation", "memorization_histogram",
                        "memorization_order", "memorization_seen")  # fmt: skip
ABOUT_MEMORIZATION = {
    "memorization_grows_with_size",
    "memorization_grows_in_training",
    "unseen_sequences",
    "repeated_text_is_memorized_more",
    "deduplication_reduces_memorization",
    "canaries",
    "small_predicts_large",
    "early_predicts_final",
    "training_order_is_poisson",
    "memorization_scaling",
}
COLUMNS = (
    ("run", False), ("size", False), ("corpus", False), ("init seed", True), ("data seed", True), ("parameters", True),
    ("tokens", True), ("training loss", True), ("held-out loss", True),
)  # fmt: skip
MARKS = {True: ("yes", "holds"), False: ("no", "does not hold"), None: ("open", "undecided")}


def page(study: Study, made: Made) -> str:
    """The page's HTML; raises UserError that names a missing input."""
    found: list[dict[str, Any]] = read_json(_present(paths.FINDINGS))
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=False)
    template = environment.from_string(PAGE.read_text(encoding="utf-8"))
    run_name = _model_to_show(study)
    text: str = template.render(
        style=Markup(STYLE.read_text(encoding="utf-8")),
        study=study.file.study,
        lead=in_words(study, made),
        tiles=tiles(study, made),
        headlines=[finding for finding in found if finding["headline"]],
        expected=[finding for finding in found if finding["expectation"] is not None and not finding["check"]],
        checks=[finding for finding in found if finding["check"]],
        facts=[f for f in found if f["expectation"] is None and f["id"] != "not_as_in_pythia"],
        summary=next(finding["text"] for finding in found if finding["id"] == "not_as_in_pythia"),
        figures=[figure_of(name) for name in shown(study)],
        columns=COLUMNS,
        runs=run_rows(_present(paths.table("runs"))),
        memory=memory_section(study),
        snippet=snippet(run_name, study.steps(run_name)[-1]),
        files=files(run_name, study.steps(run_name)[-1]),
        bundle=Markup(bundle()),
        draw=Markup(DRAW.read_text(encoding="utf-8")),
        mark=mark,
        zip=zip,
    )
    return text


def shown(study: Study) -> list[str]:
    """Figures of the page, in order: those listed, then any other that has no page of its own."""
    others = [name for name in targets.figures(study) if name not in (*FIGURES, *MEMORIZATION_FIGURES)]
    return [*FIGURES, *others, *(["recency"] if recency_runs(study) else [])]


def memorization_page(study: Study) -> str:
    """The page on memorization, with all its figures; raises UserError that names a missing input."""
    found: list[dict[str, Any]] = read_json(_present(paths.FINDINGS))
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    asked = study.file.memorization
    text: str = environment.from_string(MEMORIZATION.read_text(encoding="utf-8")).render(
        style=Markup(STYLE.read_text(encoding="utf-8")),
        study=study.file.study,
        lead=(
            f"A sequence is memorized if its first {asked.prompt} tokens, continued greedily, give its next "
            f"{asked.continuation} tokens. Fractions are of sequences that a checkpoint has seen."
        ),
        findings=[finding for finding in found if finding["id"] in ABOUT_MEMORIZATION],
        figures=[figure_of(name) for name in MEMORIZATION_FIGURES],
        bundle=Markup(bundle()),
        draw=Markup(DRAW.read_text(encoding="utf-8")),
        mark=mark,
    )
    return text


def mark(finding: dict[str, Any]) -> Markup:
    """The badge of a finding; a plain fact has its own."""
    kind, said = MARKS[finding["holds"]]
    if finding["holds"] is None and finding["expectation"] is None:
        kind, said = "", "fact"
    return Markup('<span class="mark {}">{}</span>').format(kind, said)


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


def caption(name: str) -> Markup:
    """A figure's caption, from the one source that Snakemake's report reads too."""
    text = " ".join(targets.caption(name).read_text(encoding="utf-8").split())
    parts = text.split("``")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def figure_of(name: str, path: Path | None = None) -> dict[str, Any]:
    """A figure as the pages embed it; its specification lies with the report's, or at `path`."""
    specification = read_json(_present(path or paths.figure(name)))
    # "</" would end the script element that holds it
    text = json.dumps(specification, sort_keys=True, separators=(",", ":")).replace("</", "<\\/")
    return {"name": name, "caption": caption(name), "specification": Markup(text)}


def bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    script: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", grammar())
    return script.replace("</script", "<\\/script")


def _model_to_show(study: Study) -> str:
    """The first run of the largest size."""
    return max(study.runs.values(), key=lambda spec: spec.size.non_embedding_parameters).name


def _present(path: Path) -> Path:
    if not path.exists():
        raise UserError(f"{path}: missing; the page is made from it")
    return path


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    study = load(parser.parse_args().study)
    found = read_json(_present(paths.FINDINGS))
    pages = {
        paths.page("index"): page(study, count(study)),
        paths.page("data"): data_page(study, _present(paths.table("corpora")), found),
        paths.page("memorization"): memorization_page(study),
    }
    for path, text in pages.items():
        write_text(path, text)
    print(", ".join(map(str, pages)))
