"""The tables as findings and figures read them: final values, seeds pooled, sizes in order."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import pandas as pd

from scripts.analyze import tables
from scripts.analyze.chance import chance, speaking_metric
from scripts.analyze.sources import AGAIN
from scripts.common.errors import UserError
from scripts.study import analyses, paths
from scripts.study.runs import flops_per_token
from scripts.study.study import Study
from scripts.study.targets import OF_MEMORIZATION, OF_STAGES

EXTERNAL = ["model", "run", "size", "corpus", "non_embedding", "shots", "step", "task", "metric", "value"]


@dataclass(frozen=True)
class Results:
    """A study's tables (docs/formats.md), without the runs of interventions but for `changed`."""

    study: Study
    losses: pd.DataFrame
    held_out: pd.DataFrame
    evals: pd.DataFrame
    memorization: pd.DataFrame
    runs: pd.DataFrame
    corpora: pd.DataFrame
    changed: dict[str, pd.DataFrame]
    """The same tables with the runs of interventions."""
    external: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=EXTERNAL))
    """Published scores (docs/formats.md); no rows if the study names none."""
    analyses: dict[str, pd.DataFrame] = field(default_factory=dict)
    """The tables memorization_<name> by name."""
    of_stages: dict[str, pd.DataFrame] = field(default_factory=dict)
    """The tables of the other stages by name; without rows where nothing was asked of one."""
    science: dict[str, pd.DataFrame] = field(default_factory=dict)
    """The tables of analyses by name: those of the report, and of the others where the page of all is made."""

    @cached_property
    def sizes(self) -> list[str]:
        """Sizes from small to large."""
        ordered = self.runs.sort_values(["non_embedding", "size"], kind="stable")
        return list(dict.fromkeys(ordered["size"]))

    @cached_property
    def corpus_names(self) -> list[str]:
        """Corpora that runs were trained on, those with their duplicates first."""
        reduced = {name for name, corpus in self.study.file.data.corpora.items() if corpus.deduplicated}
        return sorted(set(self.runs["corpus"]), key=lambda name: (name in reduced, name))

    @cached_property
    def main_corpus(self) -> str:
        """The corpus that findings speak of where one has to do: the first."""
        return self.corpus_names[0]

    @cached_property
    def deduplicated_pair(self) -> tuple[str, str] | None:
        """(corpus with duplicates, same components without), if both were trained on."""
        corpora = self.study.file.data.corpora
        for whole in self.corpus_names:
            for reduced in self.corpus_names:
                same = set(corpora[whole].components or []) == set(corpora[reduced].components or [])
                if same and not corpora[whole].deduplicated and corpora[reduced].deduplicated:
                    return whole, reduced
        return None

    @cached_property
    def per_step(self) -> dict[str, dict[str, float]]:
        """What a step of each size is in tokens and in FLOPs of training."""
        made: dict[str, dict[str, float]] = {"tokens": {}, "FLOPs": {}}
        for run in dict.fromkeys(self.runs["run"]):
            spec = self.study.run(run)
            tokens = spec.training.batch_size * spec.training.sequence_length
            made["tokens"][spec.size.name] = tokens
            flops = flops_per_token(spec, self.study.padded_vocabulary(run))
            made["FLOPs"][spec.size.name] = float(tokens * flops)
        return made

    @cached_property
    def spoken(self) -> pd.DataFrame:
        """`evals` with one metric a task and a column `chance` (null where a guesser's score is not known)."""
        return spoken(self.evals, self.study)

    def final(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The rows of each run's last step in this table."""
        if frame.empty:
            return frame
        last: pd.DataFrame = frame[frame["step"] == frame.groupby("run")["step"].transform("max")]
        return last


def spoken(evals: pd.DataFrame, study: Study) -> pd.DataFrame:
    """One metric a task. Of a group and its members only what the study names, if it was scored by that name."""
    if evals.empty:
        return evals.assign(chance=pd.Series(dtype=float))
    kept = []
    for key, rows in evals.groupby(["task_set", "task"], sort=True):
        task_set, task = map(str, key)
        named = study.file.evaluation.task_sets[task_set].tasks
        scored = set(evals.loc[evals["task_set"] == task_set, "task"])
        if task not in named and scored & set(named):
            continue
        metric = speaking_metric(sorted(set(rows["metric"])))
        kept.append(rows[rows["metric"] == metric].assign(chance=chance(task, metric)))
    return pd.concat(kept, ignore_index=True).astype({"chance": float})


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]


def load(study: Study, *, every_analysis: bool = False) -> Results:
    """Read results/tables, and results/science of the report's or of all analyses; raises UserError that names a
    missing table."""
    names = ("losses", "held_out", "runs", *OF_STAGES)
    of_memorization = {name: tables.read(f"memorization_{name}") for name in OF_MEMORIZATION}
    found = {name: tables.read(name) for name in names}
    if bare := [name for name in ("losses", "held_out", "runs") if found[name].empty]:
        raise UserError(f"{paths.table(bare[0], 'parquet')}: holds no rows; {AGAIN}")
    made = of_tables(study, found, tables.read("corpora"), of_memorization)
    asked = analyses.asked(study) if every_analysis else analyses.of_report(study)
    science = {name: tables.read(name, paths.science) for analysis in asked for name in analysis.tables}
    made = replace(made, science=science)
    return replace(made, external=tables.read("external")) if study.file.evaluation.external else made


def of_tables(
    study: Study,
    made: dict[str, pd.DataFrame],
    corpora: pd.DataFrame,
    of_memorization: dict[str, pd.DataFrame] | None = None,
) -> Results:
    """Results of tables by name. What the suite shows is told of runs from step 0; those of interventions are compared
    with their parents."""
    suite = {name: frame[_plain(frame, study)].reset_index(drop=True) for name, frame in made.items()}
    known = {field.name for field in fields(Results)}
    of_stages = {name: suite.pop(name, pd.DataFrame()) for name in OF_STAGES if name not in known}
    analyzed = of_memorization or {}
    return Results(study, corpora=corpora, changed=made, analyses=analyzed, of_stages=of_stages, science={}, **suite)


def _plain(frame: pd.DataFrame, study: Study) -> pd.Series:
    """Rows of runs trained here that are no intervention's; a CSV reads their empty name as missing."""
    return (frame["intervention"].fillna("") == "") & ~frame["run"].isin(list(study.external))


def named(results: Results, name: str, run: str = "run") -> pd.DataFrame:
    """A table with size, corpus and seeds of the runs in column `run`, without those of interventions."""
    columns = ["run", "size", "non_embedding", "corpus", "init_seed", "data_seed"]
    runs = results.runs[columns].rename(columns={"run": run})
    found: pd.DataFrame = results.analyses[name].merge(runs, on=run, how="inner")
    return found
