"""Figures, first page and closing screen of a small study."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
import pytest
import vl_convert
from hypothesis import given
from hypothesis import strategies as st

from scripts.analyze import export_table, tables
from scripts.analyze.memorization.tables import all_tables
from scripts.audit.recency import figure as recency_figure
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_yaml, write_json, write_text
from scripts.operate import closing
from scripts.report import theme
from scripts.report.figures import aggregate, figures
from scripts.report.findings.findings import findings
from scripts.report.made import count
from scripts.report.pages import environment, index, memorization
from scripts.report.results import Results, load
from scripts.science import make as science
from scripts.study import analyses, paths, targets
from scripts.study.stages import EVALUATE, MEMORIZE, OF_EVERY_RUN, STAGES
from scripts.study.study import Study, parse
from tests.unit import synthetic
from tests.unit.export_numbers import write_numbers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A finished study but for its page, made once."""
    folder = tmp_path_factory.mktemp("study")
    study = parse(read_yaml(ROOT / "studies/smoke.yaml"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        synthetic.make(study)
        train, held = tables.losses(study), tables.held_out(study)
        known, nothing = {EVALUATE, MEMORIZE}, pd.DataFrame(columns=tables.IDENTITY)
        others = [(stage.table, nothing) for stage in OF_EVERY_RUN if stage.table and stage not in known]
        for name, frame in (
            ("losses", train), ("held_out", held), ("runs", tables.runs(study, train, held)),
            ("evals", tables.evals(study)), ("memorization", tables.memorization(study)), *others,
        ):  # fmt: skip
            tables.write(name, frame)
        for name, frame in all_tables(study).items():
            tables.write(name, frame)
        tables.write("corpora", tables.corpora(study), parquet=False)
        for analysis in analyses.of_report(study):
            for name, frame in science.made(study, analysis).items():
                tables.write(name, frame, place=paths.science)
        write_numbers(study)
        text = export_table.text(export_table.COLUMNS, export_table.rows(study))
        write_text(Path("results/export_memory.csv"), text)
        results = load(study)
        write_json(Path("results/findings.json"), [finding.plain() for finding in findings(results)])
        rows = [{"rule": "train", "job": "a", "seconds": 90.0, "cpu_seconds": 80.0, "max_rss_mb": 500.0}]
        with Path("results/timings.csv").open("w", newline="") as handle:
            writer = csv.DictWriter(handle, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        for name, figure in figures.figures(results, pd.read_csv("results/timings.csv")).items():
            write_json(Path(f"results/figures/{name}.json"), theme.finish(figure.chart, figure.title, figure.subtitle))
        seen = [{"run": "pythia-tiny", "size": "tiny", "step": step, "window": window, "sequences": 8, "loss": 4.0,
                 "corrected": -0.1 * (step == window)} for step in (2, 4, 8) for window in (2, 4, 8)]  # fmt: skip
        write_json(Path("results/figures/recency.json"), recency_figure.specification(pd.DataFrame(seen), "pass"))
    return folder, study


@pytest.fixture
def study(made: tuple[Path, Study], monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(made[0])
    return made[1]


def test_every_figure_is_valid_has_a_caption_and_fetches_nothing(study: Study) -> None:
    names = {path.stem for path in Path("results/figures").glob("*.json")}
    captions = {name: targets.caption(name).stem for name in names}
    assert names == set(index.shown(study)) | set(memorization.FIGURES)
    shared = {"figure", "workflow", "interventions", "export", "audit"}
    assert set(captions.values()) - {"figure"} == {path.stem for path in targets.CAPTIONS.glob("*.rst")} - shared
    shown = {name for each in (*STAGES, *analyses.ANALYSES) for name in each.figures}
    assert {name for name, of in captions.items() if of != name} - {"speed"} <= shown
    assert names - {"recency"} == set(targets.figures(study))
    for name in sorted(names):
        specification = read_json(Path(f"results/figures/{name}.json"))
        without = {**specification, "config": {}}  # the configuration uses Vega's own legend.layout
        alt.Chart.from_dict(without)  # raises on what Vega-Lite does not know
        assert specification["title"]["text"]
        assert '"url"' not in json.dumps(specification)


def test_figures_are_drawn_and_repeat_their_bytes(study: Study) -> None:
    results = load(study)
    figure = figures.figures(results, None)["held_out_size"]
    digests = set()
    for _ in range(2):
        figures.write("again", theme.finish(figure.chart, figure.title, figure.subtitle))
        figures.write_png("again", theme.finish(figure.chart, figure.title, figure.subtitle))
        files = [Path("results/figures/again").with_suffix(end) for end in (".json", ".svg", ".png")]
        digests.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
        assert files[2].read_bytes().startswith(b"\x89PNG")
        for file in files:
            file.unlink()
    assert len(digests) == 1


def test_missing_timings_and_scores_give_a_panel_that_says_so(study: Study) -> None:
    results = load(study)
    empty = type(results)(
        **{**vars(results), "evals": results.evals.iloc[:0], "memorization": results.memorization.iloc[:0]}
    )
    drawn = figures.figures(empty, None)
    for name in ("evals", "evals_size", "evals_heat", "memorization_step", "memorization_size", "timings"):
        text = json.dumps(theme.finish(drawn[name].chart, drawn[name].title, drawn[name].subtitle))
        assert "No " in text


def test_scores_by_step_show_every_run_with_its_error_and_the_floor_and_ceiling(study: Study) -> None:
    results = load(study)
    specification = theme.finish(*figures.figures(results, None)["evals"])
    told = {each["title"]["text"]: each["title"]["subtitle"] for each in specification["concat"]}
    assert set(told) == {
        f"{task} (zero-shot), trained on {corpus}"
        for task in ("agreement", "continuation", "last word", "perplexity")
        for corpus in ("standard", "deduped")
    }
    assert told["agreement (zero-shot), trained on standard"] == [
        "floor: guessing 50.0%, untrained 50.0%, ceiling 100%"
    ]
    assert "lm-eval gives no standard errors" in told["perplexity (zero-shot), trained on standard"]
    drawn = [row for rows in specification["datasets"].values() for row in rows if "run" in row]
    for spec in study.runs.values():
        mine = [row for row in drawn if row["run"] == spec.name and row["stderr"] is not None]
        assert {row["step"] for row in mine} == set(study.evaluation_steps(spec.name))
        assert all(row["lowest"] <= row["value"] <= row["highest"] <= 1 for row in mine)


def test_curves_of_many_steps_are_thinned_and_seeds_averaged() -> None:
    study = parse(read_yaml(ROOT / "studies/smoke.yaml"))
    steps = [0, 1, 2, 4, 8, *range(10, 3001, 10)]
    scored = pd.DataFrame(
        {"task_set": "zero-shot", "task": "piqa", "metric": "acc", "chance": 0.5, "run": run, "size": "tiny",
         "corpus": "standard", "step": step, "value": value, "stderr": 0.1}
        for run, value in (("a", 0.5), ("b", 0.7)) for step in steps
    )  # fmt: skip
    curves = aggregate.score_curves(SimpleNamespace(spoken=scored, study=study))  # type: ignore[arg-type]
    assert len(curves) <= 2 * (aggregate.POINTS_A_CURVE + 1)
    assert {0, 1, 2, 4, 8, 10, 3000} <= set(curves["step"])
    means = aggregate.mean_scores(curves)
    assert (
        set(means["value"]) == {0.6}
        and set(means["runs"]) == {2}
        and list(means["step"]) == sorted(set(curves["step"]))
    )
    assert aggregate.mean_scores(curves[curves["run"] == "a"]).empty


def test_published_scores_of_the_same_runs_are_drawn(study: Study) -> None:
    plain = load(study)
    row = {"model": "pythia-tiny", "run": "pythia-tiny", "size": "tiny", "corpus": "standard", "non_embedding": 12_000}
    row |= {"shots": 0, "step": 8, "task": "castalia_agreement", "metric": "acc", "value": 0.987}
    there = pd.DataFrame(
        [row, {**row, "shots": 5, "value": 0.123}, {**row, "run": None, "corpus": None, "value": 0.321}]
    )
    drawn = figures.figures(replace(plain, external=there), None)
    for name in ("evals", "evals_size"):
        text = json.dumps(theme.finish(drawn[name].chart, drawn[name].title, drawn[name].subtitle))
        assert "0.987" in text and "0.123" not in text and "0.321" not in text  # same number of examples, same run
        assert "published" in drawn[name].subtitle
        assert "published" not in figures.figures(plain, None)[name].subtitle


def test_published_models_with_the_same_scores_are_a_finding(study: Study) -> None:
    rows = [{"model": model, "shots": 0, "step": 8, "task": f"task{number}", "metric": "acc", "value": number / 10}
            for model in ("pythia-2.8b", "pythia-2.8b-deduped") for number in range(10)]  # fmt: skip
    told = {finding.id: finding.text for finding in findings(replace(load(study), external=pd.DataFrame(rows)))}
    assert "pythia-2.8b and pythia-2.8b-deduped have the same scores" in told["external_twins"]
    assert "external_twins" not in {finding.id for finding in findings(load(study))}


def test_the_page_is_whole_and_asks_the_network_for_nothing(study: Study) -> None:
    text = index.page(study, count(study))
    assert text == index.page(study, count(study))
    own = text.replace(environment.bundle(), "")
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", own)
    for finding in read_json(Path("results/findings.json")):
        if finding["id"] != "not_as_in_pythia":
            assert f'id="{finding["id"]}"' in text
    assert all(f'data-figure="{name}"' in text for name in index.shown(study))
    assert all(f"<td>{name}</td>" in text for name in study.runs)
    assert text.count("<script") - own.count("<script") <= text.count("<script")
    assert own.count("</script>") == len(index.shown(study)) + 3


def test_text_of_the_study_is_escaped(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    found = read_json(Path("results/findings.json"))
    found[0]["text"] = "<img src=x onerror=alert(1)>"
    monkeypatch.setattr(index, "read_json", lambda path: found if path.name == "findings.json" else read_json(path))
    assert "<img src=x" not in index.page(study, count(study))


def test_a_missing_figure_is_named(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "SCORES", ("loss", "absent"))
    with pytest.raises(UserError, match=r"figures/absent\.json|absent\.rst"):
        index.page(study, count(study))


def test_closing_says_counts_and_headlines_in_twenty_lines(study: Study) -> None:
    found = read_json(Path("results/findings.json"))
    lines = [str(line) for line in closing.lines(study, count(study), found)]
    assert len(lines) <= 20
    text = "\n".join(lines)
    assert f"{len(study.runs)} of {len(study.runs)} runs" in text
    assert all(finding["short"] in text for finding in found if finding["headline"])
    assert "train 90 s" in text


def test_closing_of_an_unfinished_study_claims_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Study
) -> None:
    monkeypatch.chdir(tmp_path)
    text = "\n".join(str(line) for line in closing.lines(study, count(study), []))
    assert f"0 of {len(study.runs)} runs" in text
    assert "What came out" not in text
    assert "results/index.html" not in text


@given(st.integers(1, 143_000))
def test_loss_bins_cover_every_step(largest: int) -> None:
    ends = aggregate.log_bins(largest)
    assert ends[0] == 1
    assert ends[-1] == largest
    assert (np.diff(ends) > 0).all()
    assert len(ends) <= aggregate.POINTS_A_CURVE


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_share(rows: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, rows))
    low, high = aggregate.wilson(np.array([hits]), np.array([rows]))
    assert 0 <= low[0] <= hits / rows + 1e-12
    assert hits / rows - 1e-12 <= high[0] <= 1
    assert high[0] > low[0]


def test_sizes_get_distinct_colours_from_light_to_dark() -> None:
    colours = theme.size_colours([str(i) for i in range(10)])
    light = [sum(w * int(c[i : i + 2], 16) for w, i in ((0.2126, 1), (0.7152, 3), (0.0722, 5))) for c in colours]
    assert light == sorted(light, reverse=True)
    assert len(set(colours)) == 10
    assert theme.size_colours(["one"]) == [theme.SIZE_STOPS[0]]


def test_the_page_on_memorization_has_its_figures_and_findings(study: Study) -> None:
    text = memorization.memorization_page(study, read_json(Path("results/findings.json")))
    for name in memorization.FIGURES:
        assert f'id="specification-{name}"' in text
    found = {finding["id"] for finding in read_json(Path("results/findings.json"))}
    assert found & memorization.ABOUT >= {
        "small_predicts_large",
        "training_order_is_poisson",
        "memorization_scaling",
    }
    assert all(f'<li id="{name}">' in text for name in found & memorization.ABOUT)


@pytest.mark.parametrize("how", ["no row", "one row", "one group"])
def test_figures_of_little_are_bounded_and_hold_numbers_only(study: Study, how: str) -> None:
    """A facet over no rows had 1.8e308 px; every table that a figure reads is cut, alone and with the others."""
    results, timings = load(study), pd.read_csv("results/timings.csv")
    seen = pd.DataFrame([{"run": "a", "step": 1, "window": 1, "sequences": 8, "corrected": 0.1}] * 2)
    names = ("losses", "held_out", "evals", "memorization", "corpora")
    cut = {name: _cut(getattr(results, name), how) for name in names}
    cut_analyses = {name: _cut(table, how) for name, table in results.analyses.items()}
    cut_science = {name: _cut(table, how) for name, table in results.science.items()}
    made = {"recency": recency_figure.specification(_cut(seen, how), "pass")}
    alone: list[dict[str, Any]] = [{name: table} for name, table in cut.items()]
    asked = targets.figures(study)  # those of other analyses need their tables
    makers = {name: make for name, make in figures.makers(study).items() if name in asked}
    makers |= {"timings": lambda _: figures._timings(_cut(timings, how))}
    for name, make in makers.items():
        read = _tables_read(make, results)
        for changes in (
            *alone,
            {"analyses": cut_analyses},
            {"science": cut_science},
            {**cut, "analyses": cut_analyses},
        ):
            if len(changes) > 1 or read & changes.keys():  # else nothing changes
                made[f"{name} {list(changes)}"] = theme.finish(*make(replace(results, **changes)))
    for text, name in {json.dumps(specification, sort_keys=True): name for name, specification in made.items()}.items():
        svg = vl_convert.vegalite_to_svg(json.loads(text), vl_version=theme.grammar())
        width, height = (float(re.findall(rf'^<svg[^>]* {side}="([^"]+)"', svg)[0]) for side in ("width", "height"))
        assert 40 < height < 8000 and 40 < width < 4000, name
        assert not re.search("NaN|Infinity|undefined", svg), name


def _tables_read(make: Callable[[Results], figures.Figure], results: Results) -> set[str]:
    read = set()

    class Watched(Results):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    make(Watched(**vars(results)))
    return read


def _cut(frame: pd.DataFrame, how: str) -> pd.DataFrame:
    """No row, the first one, or those that share its first column that names a group."""
    if how != "one group" or frame.empty:
        return frame.iloc[: int(how == "one row")]
    by = next((name for name in ("run", "predictor", "component", "rule") if name in frame), frame.columns[0])
    return frame[frame[by] == frame[by].iloc[0]]


def test_closing_of_a_target_speaks_of_that_alone_from_where_the_person_stands(study: Study) -> None:
    shown = closing.of_targets(study, ["results/findings.json", "train"], closing.seen_from(Path.cwd().parent))
    text = "\n".join(map(str, shown))
    assert f"{Path.cwd().name}/results/findings.json" in text and "train: all that it names" in text
    assert "audit" not in text and "What came out" not in text
    assert closing.seen_from(Path.cwd()) == closing.seen_from(None) == ""
