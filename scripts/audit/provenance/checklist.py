"""The machine-learning reproducibility checklist and ACM's artifact table, filled from what the study holds.

Items after Pineau et al. 2021, "Improving Reproducibility in Machine Learning Research", and ACM's Artifact Review and
Badging 1.1. What no file here tells is said to be missing, not guessed.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from scripts.audit.provenance.artefacts import Artefact, corpora_read, record
from scripts.audit.provenance.statement import versions
from scripts.audit.verdict import plain, read_part
from scripts.common import manifest
from scripts.common.untrusted import read_text, reading
from scripts.study import paths
from scripts.study.manifests import CorpusFacts
from scripts.study.study import Study

NOT_TOLD = "not told by the study's files; to be filled in"
Row = tuple[str, str]


def checklist(study: Study, found: list[Artefact]) -> list[Row]:
    """(item, answer) of the checklist."""
    file, runs = study.file, study.runs.values()
    seeds = sorted({run.init_seed for run in runs} | {run.data_seed for run in runs})
    return [
        ("Models", "; ".join(_sizes(study))),
        ("Data: sources and versions", "; ".join(_sources(study))),
        ("Data: sizes after tokenization", "; ".join(_corpora(study))),
        ("Data: splits", f"{file.data.held_out_fraction:.0%} of the documents are held out, near-duplicates together"),
        ("Data: excluded and preprocessed", f"near-duplicates at {file.data.deduplication.threshold} where a corpus "
         "asks for it; the study file names every step"),
        ("Hyper-parameters", "every value stands in results/study.json; none was searched for by this workflow"),
        ("Number of training runs", f"{len(study.runs)}: {', '.join(study.runs)}"),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Central tendency and variation", _variation()),
        ("Measures", "; ".join(f"{name}: {', '.join(chosen.tasks)}" for name, chosen in
                               file.evaluation.task_sets.items())),
        ("Computing infrastructure", "; ".join(_machines(found)) or NOT_TOLD),
        ("Run time", _time() or NOT_TOLD),
        ("Energy", NOT_TOLD),
        ("Software", ", ".join(f"{name} {version}" for name, version in versions(found).items())),
        ("Code to train, evaluate, and pre-trained models", "this repository; models/<run>/step<N>/"),
        ("Commands that give the results", "make study, or snakemake --configfile results/study.json"),
    ]  # fmt: skip


def artifact_table(runs: int, found: list[Artefact]) -> list[Row]:
    """(badge, evidence) of ACM's table; what a badge asks of people is said to be open."""
    verdicts = list(_verdicts())
    return [
        ("Artifacts Available", "open: needs a public archive with a DOI; results/provenance/statement.json names "
         f"{len(found)} artefacts by sha256"),
        ("Artifacts Evaluated, Functional: documented", "README.md, docs/"),
        ("Artifacts Evaluated, Functional: consistent and complete", f"{runs} runs, {len(found)} artefacts, "
         "none missing"),
        ("Artifacts Evaluated, Functional: exercisable", "make study STUDY=studies/smoke.yaml, about a minute"),
        ("Artifacts Evaluated, Reusable", "every stage is a command; a study is one file"),
        ("Results Reproduced", "; ".join(verdicts) or "no verdict of the audit is there yet"),
        ("Results Replicated", "open: needs another team and code of its own"),
    ]  # fmt: skip


def markdown(title: str, head: Row, rows: Iterable[Row]) -> str:
    """A page with one table."""
    lines = [f"# {title}", "", f"| {head[0]} | {head[1]} |", "|---|---|"]
    lines += [f"| {item} | {answer.replace('|', chr(92) + '|')} |" for item, answer in rows]
    return "\n".join(lines) + "\n"


def _sizes(study: Study) -> list[str]:
    by_size = {run.size.name: run for run in study.runs.values()}
    return [
        f"{name}: {run.size.layers} layers, width {run.size.width}, "
        f"{run.size.parameters(study.padded_vocabulary(run.name)):,} parameters"
        for name, run in by_size.items()
    ]


def _sources(study: Study) -> list[str]:
    return [
        f"{name}: {component.archive.package} {component.archive.version}, sha256 {component.archive.sha256}"
        if component.archive
        else f"{name}: {', '.join(component.files or ['canaries' if component.canaries else 'arithmetic'])}"
        for name, component in study.file.data.components.items()
    ]


def _corpora(study: Study) -> list[str]:
    lines = []
    for name in corpora_read(study):
        told = manifest.read(paths.corpus(name), CorpusFacts).facts
        lines.append(f"{name}: {told.documents:,} documents, {told.tokens:,} tokens")
    return lines


def _variation() -> str:
    if not paths.table("runs").exists():
        return NOT_TOLD
    by_kind: dict[tuple[str, str], list[float]] = {}
    with reading(paths.table("runs")):
        for row in csv.DictReader(io.StringIO(read_text(paths.table("runs")))):
            by_kind.setdefault((row["size"], row["corpus"]), []).append(float(row["held_out_loss"]))
    told = [
        f"{size} {corpus}: {sum(values) / len(values):.3f} ({min(values):.3f} to {max(values):.3f}, n = {len(values)})"
        for (size, corpus), values in by_kind.items()
    ]
    return "held-out loss at the end, mean and range over seeds: " + "; ".join(told)


def _machines(found: list[Artefact]) -> list[str]:
    records = [record(artefact.path) for artefact in found]
    return sorted({f"{told.get('processor', 'a processor that is not named')}, {told['platform']}"
                   for told in records if told})  # fmt: skip


def _time() -> str | None:
    if not paths.TIMINGS.exists():
        return None
    with reading(paths.TIMINGS):
        rows = list(csv.DictReader(io.StringIO(read_text(paths.TIMINGS))))
        seconds, processor = (sum(float(row[of] or 0) for row in rows) for of in ("seconds", "cpu_seconds"))
    return f"{len(rows)} jobs, {seconds / 3600:.2f} h one after the other, {processor / 3600:.2f} h of processor"


def _verdicts() -> Iterable[str]:
    for path in sorted(paths.AUDIT.glob("*.json")):
        _, checks = read_part(path)
        if checks:
            yield f"{path}: {plain(checks)['verdict']}, {len(checks)} checks"
