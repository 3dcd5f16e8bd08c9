"""Tables of the analyses of memorization: results/tables/memorization_*.{parquet,csv} (docs/formats.md)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from scripts.analyze import sources
from scripts.analyze.memorization.statistics import (
    BOOTSTRAP,
    correlation,
    expected_quantiles,
    prediction,
    scaling_intervals,
    training_order,
    windows,
)
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study

SEED = 1234  # of bootstraps
MAP_STEPS = 12  # steps at most in a correlation map
COUNTS = (1, 2, 3, 5, 9, 17, 33, 65)  # first count of each group of duplicate counts
DRAWS_A_RUN = 200  # of the tests of order: with 60 or fewer no p could be small enough for three tests of every run
ORDER = ["run", "step", "duplicates", "window_sequences", "windows", "mean", "dispersion", "dispersion_p", "ks", "ks_p",
         "lag", "lag_p"]  # fmt: skip
PAIR = ["kind", "predictor", "predictor_step", "target", "target_step"]


class Scored:
    """Results of a study row by row, each file read when it is first asked for."""

    def __init__(self, study: Study) -> None:
        self.study = study
        asked = [paths.memorization(name, step) for name in study.runs for step in self.steps(name)]
        sources.require(asked)
        self.kept: dict[tuple[str, int], pd.DataFrame] = {}

    def steps(self, run: str) -> list[int]:
        return self.study.memorization_steps(run)

    def rows(self, run: str, step: int) -> pd.DataFrame:
        """Sequences of the order that the checkpoint has seen, by sample index."""
        found = self.table(run, step).query("seen and chosen != 'canary'")
        return found.set_index("sample_index").sort_index()

    def fair(self, run: str, step: int) -> pd.DataFrame:
        """As `rows`, without those that were chosen because they repeat, unless all sequences are there."""
        found = self.rows(run, step)
        everything = self.study.file.memorization.sequences == "all"
        return found if everything else found[found["chosen"] == "sample"]

    def table(self, run: str, step: int) -> pd.DataFrame:
        """A checkpoint's result; the last few are kept."""
        if (run, step) not in self.kept:
            if len(self.kept) > MAP_STEPS:
                self.kept.pop(next(iter(self.kept)))
            self.kept[run, step] = sources.scored_sequences(run, step).to_pandas()
        return self.kept[run, step]

    def ends(self) -> Iterator[tuple[Run, int]]:
        """Every run that was scored, and its last scored step."""
        for spec in self.study.runs.values():
            if steps := self.steps(spec.name):
                yield spec, steps[-1]


def pair(one: pd.DataFrame, two: pd.DataFrame) -> dict[str, Any]:
    """Prediction and correlations over the sequences that both checkpoints have seen."""
    both = one.merge(two, left_index=True, right_index=True, suffixes=("_one", "_two"))
    flags = [both[f"memorized_{side}"].to_numpy(bool) for side in ("one", "two")]
    scores = [both[f"score_{side}"].to_numpy(float) for side in ("one", "two")]
    known = not np.isnan(scores[0]).any() and not np.isnan(scores[1]).any()
    return {
        **prediction(*flags),
        "correlation": correlation(*flags),
        "score_correlation": correlation(*scores) if known else None,
    }


def pairs(scored: Scored) -> pd.DataFrame:
    """Small predicts large (`kind` size: last steps of runs on the same sequences), early predicts final (`kind` step),
    and the other pairs of a run's steps, for the map (`kind` map)."""
    rows, columns = [], ["memorized", "score"]
    alike: dict[tuple[str, int, int], list[tuple[Run, int]]] = {}
    for spec, step in scored.ends():
        if spec.origin is None:
            alike.setdefault((spec.corpus, spec.data_seed, spec.init_seed), []).append((spec, step))
    for group in alike.values():
        ordered = sorted(group, key=lambda each: each[0].size.non_embedding_parameters)
        for (small, early), (large, late) in combinations(ordered, 2):
            if small.size == large.size:  # another recipe
                continue
            found = pair(scored.rows(small.name, early)[columns], scored.rows(large.name, late)[columns])
            rows.append(dict(zip(PAIR, ("size", small.name, early, large.name, late), strict=True)) | found)
    for spec, last in scored.ends():
        steps = scored.steps(spec.name)
        shown = [steps[i] for i in np.unique(np.linspace(0, len(steps) - 1, MAP_STEPS).round().astype(int))]
        tables = {step: scored.rows(spec.name, step)[columns] for step in shown}
        for early, late in combinations(shown, 2):
            if len(tables[early]):
                kind = "step" if late == last else "map"
                found = pair(tables[early], tables[late])
                rows.append(dict(zip(PAIR, (kind, spec.name, early, spec.name, late), strict=True)) | found)
    return pd.DataFrame(rows, columns=[*PAIR, *prediction(np.zeros(0, bool), np.zeros(0, bool)), "correlation",
                                       "score_correlation"])  # fmt: skip


def histograms(scored: Scored) -> pd.DataFrame:
    """Rows by number of right tokens, of the last step and the sequences (or the sample) it has seen; none of mode
    exact."""
    rows = []
    for spec, step in scored.ends():
        found = scored.fair(spec.name, step)
        hits = (found["score"].dropna() * scored.study.file.memorization.continuation).round().astype(int)
        rows += [
            {"run": spec.name, "step": step, "hits": h, "sequences": int(n)} for h, n in hits.value_counts().items()
        ]
    return pd.DataFrame(rows, columns=["run", "step", "hits", "sequences"]).sort_values(
        ["run", "hits"], ignore_index=True
    )


def in_order(scored: Scored) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tests of the training order, a row per run and treatment of duplicates, and the windows they rest on.

    Rows are those of a whole order, or of the sample where not all were scored.
    """
    tests, counted, ends = [], [], list(scored.ends())
    everything = scored.study.file.memorization.sequences == "all"
    repeats = max(BOOTSTRAP, DRAWS_A_RUN * len(ends))
    for spec, step in ends:
        found = scored.fair(spec.name, step)
        for duplicates, part in (("included", found), ("excluded", found[found["count"] == 1])):
            counts, size = windows(part["memorized"].to_numpy(bool), spec.training.batch_size if everything else 1)
            subject = {"run": spec.name, "step": step, "duplicates": duplicates}
            tests.append({**subject, "window_sequences": size, **training_order(counts, size, SEED, repeats)})
            if counts.any():
                order = np.argsort(counts, kind="stable")
                quantile = np.empty(len(counts))
                quantile[order] = expected_quantiles(counts, size)
                for window, (count, expected) in enumerate(zip(counts.tolist(), quantile.tolist(), strict=True)):
                    counted.append({**subject, "window": window, "memorized": count, "expected": expected})
    columns = ["run", "step", "duplicates", "window", "memorized", "expected"]
    return pd.DataFrame(tests, columns=ORDER), pd.DataFrame(counted, columns=columns)


def by_step_seen(scored: Scored) -> pd.DataFrame:
    """Memorized rows by checkpoint and by when they were seen: between which two checkpoints."""
    rows = []
    for spec, _ in scored.ends():
        steps = np.array(scored.steps(spec.name))
        for step in steps.tolist():
            found = scored.rows(spec.name, step)
            if found.empty:
                continue
            until = steps[np.searchsorted(steps, found["step_seen"].to_numpy())]
            for seen, part in found.groupby(until)["memorized"]:
                rows.append({"run": spec.name, "step": step, "seen_until": int(str(seen)), "sequences": len(part),
                             "memorized": int(part.sum())})  # fmt: skip
    return pd.DataFrame(rows, columns=["run", "step", "seen_until", "sequences", "memorized"])


def by_group(scored: Scored) -> pd.DataFrame:
    """Memorized rows at the end by duplicate count, by component, and of canaries by copies.

    By component of all sequences or of the sample: most of what was chosen because it repeats is of few components.
    """
    rows = []
    for spec, step in scored.ends():
        whole, seen = scored.table(spec.name, step), scored.rows(spec.name, step)
        bands = np.array(COUNTS)[np.searchsorted(COUNTS, seen["count"], "right") - 1]
        canaries = whole[whole["chosen"] == "canary"]
        fair = scored.fair(spec.name, step)
        of: list[tuple[str, Any]] = [("count", seen.groupby(bands)), ("component", fair.groupby("component")),
                                     ("canary", canaries.groupby("copies"))]  # fmt: skip
        for by, groups in of:
            for group, part in groups:
                rows.append({"run": spec.name, "step": step, "by": by, "group": str(group), "sequences": len(part),
                             "memorized": int(part["memorized"].sum()),
                             "mean_score": part["score"].mean()})  # fmt: skip
    return pd.DataFrame(rows, columns=["run", "step", "by", "group", "sequences", "memorized", "mean_score"])


def fits(scored: Scored) -> pd.DataFrame:
    """By corpus: log-odds of a sampled sequence being memorized on log10 of parameters, and of tokens read.

    The last steps of all sizes give the fit in parameters, the largest size's steps that in tokens; rows are the sample
    of the first data seed, drawn anew for the intervals. Runs trained here, from step 0.
    """
    rows = []
    for corpus in scored.study.file.data.corpora:
        specs = [s for s, _ in scored.ends() if s.corpus == corpus and s.origin is None and s.external is None]
        specs = [s for s in specs if (s.data_seed, s.init_seed) == (specs[0].data_seed, specs[0].init_seed)]
        if not specs:
            continue
        largest = max(specs, key=lambda spec: spec.size.non_embedding_parameters)
        steps = [(largest, step) for step in scored.steps(largest.name) if step]
        sets: list[tuple[str, list[tuple[Run, int]], Callable[[Run, int], float]]] = [
            (
                "parameters",
                [(s, scored.steps(s.name)[-1]) for s in specs],
                lambda s, _: s.size.non_embedding_parameters,
            ),
            ("tokens", steps, lambda s, step: step * s.training.batch_size * s.training.sequence_length),
        ]
        for term, models, coordinate in sets:
            points = [(float(np.log10(coordinate(*model))),) for model in models]
            if len(points) < 2:
                continue
            flags, known = matrices(scored, models)
            found = scaling_intervals(points, flags, known, SEED) if flags.shape[1] else None
            if found:
                rows += [{"corpus": corpus, "in": term, "models": len(points), "term": name, **values}
                         for name, values in zip(("intercept", "slope"), found, strict=True)]  # fmt: skip
    return pd.DataFrame(rows, columns=["corpus", "in", "models", "term", "estimate", "lowest", "highest"])


def matrices(scored: Scored, models: list[tuple[Run, int]]) -> tuple[np.ndarray, np.ndarray]:
    """(memorized, seen) bool [models, rows], by sample index, of the sequences that are in the sample of every model.

    Runs of another length draw another sample.
    """
    flags = []
    for spec, step in models:
        table = scored.table(spec.name, step)
        flags.append(table.loc[table["chosen"] == "sample"].set_index("sample_index")[["memorized", "seen"]])
    shared = sorted(set.intersection(*(set(each.index) for each in flags)))
    memorized, seen = (np.array([each.loc[shared, name].to_numpy(bool) for each in flags])
                       for name in ("memorized", "seen"))  # fmt: skip
    return memorized, seen


def all_tables(study: Study) -> dict[str, pd.DataFrame]:
    """Every table of this module by name."""
    scored = Scored(study)
    tests, counted = in_order(scored)
    return {
        "memorization_pairs": pairs(scored),
        "memorization_histogram": histograms(scored),
        "memorization_order": tests,
        "memorization_windows": counted,
        "memorization_seen": by_step_seen(scored),
        "memorization_groups": by_group(scored),
        "memorization_fits": fits(scored),
    }
