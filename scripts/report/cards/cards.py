"""Write the model card of every run, results/cards/<run>/README.md, with its own figures beside it.

Everything in a card is read from the study, the size catalogue, the manifests and the tables; `convert publish`
puts it into every revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from scripts.analyze import tables
from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.environment import ROOT
from scripts.common.files import read_yaml, write_text
from scripts.report import theme
from scripts.report.cards.text import Card, text
from scripts.report.figures.figures import of_run
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study import paths
from scripts.study.manifests import CorpusFacts, ModelFacts
from scripts.study.study import Study, load

OLD_SUITE = ROOT / "studies/pythia-v0.yaml"


def card_of(
    study: Study,
    name: str,
    made: Mapping[str, pd.DataFrame],
    drawn: Mapping[str, Figure],
    old_names: dict[str, str],
) -> Card:
    """Everything a run's card tells, from its tables, figures and manifests."""
    spec, last = study.run(name), study.steps(name)[-1]
    model = manifest.read(paths.model(name, last), ModelFacts).facts
    corpus = paths.corpus(spec.corpus)
    family = [(other, study.run(other), _parameters(study, other)) for other in study.runs]
    final = rows_of(made.get("runs"), name)
    return Card(
        run=spec,
        study=study.file.study,
        licence=study.file.licence,
        vocabulary=study.file.data.tokenizer.vocabulary,
        padded_vocabulary=study.padded_vocabulary(name),
        steps=study.steps(name),
        optimizer_steps=study.optimizer_steps(name),
        family=family,
        old_names=old_names,
        corpus=manifest.read(corpus, CorpusFacts).facts if (corpus / manifest.NAME).exists() else None,
        final=final[0] if final else {},
        evals=rows_of(made.get("evals"), name, last_only=True),
        memorization=rows_of(made.get("memorization"), name, last_only=True),
        logits=model.max_logit_difference,
        source=(model.source.repo or model.source.folder) if model.source else None,
        figures={figure: made.title for figure, made in drawn.items()},
    )


def _parameters(study: Study, name: str) -> int:
    return study.run(name).size.parameters(study.padded_vocabulary(name))


def rows_of(frame: pd.DataFrame | None, name: str, *, last_only: bool = False) -> list[dict[str, Any]]:
    """A run's rows of a table, or only those of its last step there."""
    if frame is None or frame.empty:
        return []
    rows = frame[frame["run"] == name]
    if last_only and not rows.empty:
        rows = rows[rows["step"] == rows["step"].max()]
    return records(rows.astype(object).where(rows.notna(), None))


def figures_of(study: Study, name: str, made: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """Figures of one run alone, by name; none of a published one, whose training nobody saw."""
    if study.run(name).external:
        return {}
    tables_read = {table: made[table] for table in ("losses", "held_out", "evals", "memorization", "runs")}
    own = {table: frame[frame["run"] == name].reset_index(drop=True) for table, frame in tables_read.items()}
    return of_run(Results(study, corpora=pd.DataFrame(), changed=own, analyses={}, of_stages={}, science={}, **own))


def write(card: Card, drawn: Mapping[str, Figure]) -> None:
    """Write a card and the figures it shows, the card last."""
    folder = paths.card(card.run.name)
    for name, figure in drawn.items():
        specification = theme.finish(figure.chart, figure.title, figure.subtitle)
        write_text(folder / "figures" / f"{name}.svg", theme.picture(specification))
    write_text(folder / "README.md", text(card))


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    study = load(parser.parse_args().study)
    old_names: dict[str, str] = read_yaml(OLD_SUITE)["names"]
    made = {name: tables.read(name) for name in tables.names(study)}
    for name in study.runs:
        drawn = figures_of(study, name, made)
        write(card_of(study, name, made, drawn, old_names), drawn)
    print(f"{len(study.runs)} model cards")
