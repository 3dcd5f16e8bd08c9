"""Files that pass for a finished study's, without a tensor in them: manifests that name their parents' hashes, scores
and memorization that name their model's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from itertools import product
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common import manifest
from scripts.common.files import canonical, sha256_file
from scripts.study import sampling, targets
from scripts.study.fingerprints import settings_of
from scripts.study.manifests import MANIFEST_KINDS
from scripts.study.stages import CONVERT, EVALUATE, MEMORIZE, OF_EVERY_RUN, TRAIN
from scripts.study.study import HELD_OUT, Study

F = TypeVar("F")
KINDS = {facts.kind: facts for facts in MANIFEST_KINDS}


def without_facts(kind: type[F], **told: Any) -> F:
    """The facts of a kind of manifest, which tell nothing but what is given."""
    hints = get_type_hints(kind)
    return kind(**{field.name: told.get(field.name, _nothing(hints[field.name])) for field in fields(kind)})


def _nothing(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        return None
    if is_dataclass(hint):
        return without_facts(hint)
    return tuple(map(_nothing, get_args(hint))) if get_origin(hint) is tuple else (get_origin(hint) or hint)()


class Fakes:
    """Writes into `root` what the study's stages would write."""

    def __init__(self, study: Study, root: Path) -> None:
        self.study, self.root = study, root
        self.facts_of: dict[str, dict[str, Any]] = {}  # by path of a manifest, where they are to tell anything

    def everything(self) -> None:
        """The whole study."""
        self.data()
        for run in self.study.runs:
            self.checkpoints(run)
            self.models(run)
            for task_set in self.study.file.evaluation.task_sets:
                self.scores(run, task_set)
            self.memorization(run)
            self.exports(run)
            for stage in set(OF_EVERY_RUN) - {TRAIN, CONVERT, EVALUATE, MEMORIZE}:
                for step, part in product(stage.steps(self.study, run), stage.parts(self.study)):
                    self.write(
                        stage.file(run, step, part), self.facts(run, step, stage.settings(self.study, run, part))
                    )
        self.verdicts()
        for made in (targets.tables, targets.results, targets.cards, targets.export_tables, targets.provenance):
            for path in made(self.study):
                self.write(path, {})

    def data(self) -> None:
        """Corpora, orders and what goes with them."""
        study = self.study
        for name in study.file.data.components:
            self.manifest(f"data/sources/{name}/manifest.json", "source", study.component_settings(name))
        blocks = [(block, f"{block.folder.as_posix()}/manifest.json") for block in study.blocks()]
        for block, path in blocks:
            subject = {"component": block.source, "part": block.part, "parts": block.parts}
            source = [f"data/sources/{block.source}/manifest.json"]
            self.manifest(path, "documents", study.component_settings(block.source), subject, source)
        clusters, tokenizer = "data/clusters/manifest.json", "data/tokenizer/manifest.json"
        documents = [path for _, path in blocks]
        self.manifest(clusters, "clusters", study.cluster_settings(), parents=documents)
        self.manifest(tokenizer, "tokenizer", study.tokenizer_settings(), parents=[clusters])
        held_out, text = f"data/{HELD_OUT}/manifest.json", [clusters, tokenizer]
        self.manifest(held_out, "corpus", study.corpus_settings(HELD_OUT), parents=text)
        self.manifest("data/tasks/manifest.json", "tasks", study.task_settings(), parents=[held_out])
        for run in study.runs.values():
            corpus, order = self.parents(run.name)
            self.manifest(corpus, "corpus", study.corpus_settings(run.corpus), parents=text)
            self.manifest(order, "order", study.order_settings(run.corpus, run.data_seed), parents=[corpus])

    def checkpoints(self, run: str, steps: Iterable[int] | None = None) -> None:
        """Checkpoints of these steps, or of all and the run's manifest."""
        parents = {path: sha256_file(self.root / path) for path in self.parents(run)}
        settings = {**self.study.train_settings(run), "parents": parents}
        home = f"checkpoints/{run}"
        for step in self.study.steps(run) if steps is None else steps:
            self.manifest(f"{home}/global_step{step}/manifest.json", "checkpoint", settings, {"run": run, "step": step})
        if steps is None:
            self.manifest(f"{home}/manifest.json", "run", settings, {"run": run})

    def models(self, run: str, steps: Iterable[int] | None = None) -> None:
        """Models of these steps, or of all."""
        for step in self.study.steps(run) if steps is None else steps:
            parents = [f"checkpoints/{run}/global_step{step}/manifest.json", "data/tokenizer/manifest.json"]
            path, subject = f"models/{run}/step{step}/manifest.json", {"run": run, "step": step}
            self.manifest(path, "model", settings_of(self.study, path) or {}, subject, parents)

    def scores(self, run: str, task_set: str, steps: Iterable[int] | None = None) -> None:
        """Scores on one task set."""
        for step in self.study.evaluation_steps(run) if steps is None else steps:
            facts = self.facts(run, step, self.study.evaluation_settings(task_set))
            self.write(f"results/evals/{run}/{task_set}/step{step}.json", facts | {"results": {}})

    def memorization(self, run: str, steps: Iterable[int] | None = None) -> None:
        """Memorization scores."""
        for step in self.study.memorization_steps(run) if steps is None else steps:
            path = self.root / f"results/memorization/{run}/step{step}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            facts = canonical(self.facts(run, step, self.study.memorization_settings()))
            pq.write_table(pa.table({"score": [1.0]}).replace_schema_metadata({"castalia": facts}), path)

    def exports(self, run: str) -> None:
        """GGUF files of the steps that the study exports, and what was measured on them."""
        for step in self.study.export_steps(run):
            path, parents = f"exports/{run}/step{step}/manifest.json", [f"models/{run}/step{step}/manifest.json"]
            self.manifest(path, "gguf", self.study.gguf_settings(), {"run": run, "step": step}, parents)
            facts = self.facts(run, step, self.study.export_settings(run))
            self.write(f"results/export/{run}/step{step}.json", facts)
            self.write(f"results/export/{run}/step{step}.record.json", {})

    def verdicts(self) -> None:
        """What the audit found by making things again, and by showing runs the rows they just saw."""
        about = {f"results/audit/replay/{each.name}.json": each.run
                 for each in (*sampling.segments(self.study), *sampling.models(self.study))}  # fmt: skip
        about |= {f"results/audit/recency/{run}.json": run for run in sampling.recency_runs(self.study)}
        for path, run in about.items():
            sha256 = sha256_file(self.root / f"checkpoints/{run}/manifest.json")
            self.write(path, {"verdict": "pass", "checks": [], "run": run, "run_manifest": sha256})
        for path in {*targets.replayed(self.study), *targets.audit(self.study)} - set(about):
            self.write(path, {"verdict": "pass", "checks": []})

    def parents(self, run: str) -> tuple[str, str]:
        """What a run is trained on: its corpus and its order."""
        spec = self.study.run(run)
        return f"data/{spec.corpus}/manifest.json", f"data/{spec.corpus}/order-{spec.data_seed}/manifest.json"

    def facts(self, run: str, step: int, settings: dict[str, Any]) -> dict[str, Any]:
        """What a result says of itself."""
        model = sha256_file(self.root / f"models/{run}/step{step}/manifest.json")
        return {"run": run, "step": step, "model": model, "settings": settings}

    def manifest(
        self, path: str, kind: str, settings: dict[str, Any], subject: Any = None, parents: Iterable[str] = ()
    ) -> None:
        """A manifest without files."""
        hashes = {parent: sha256_file(self.root / parent) for parent in parents}
        facts = without_facts(KINDS[kind], **self.facts_of.get(path, {}))
        content = manifest.Manifest(manifest.SCHEMA, kind, subject or {}, True, settings, "", hashes, {}, facts)
        self.write(path, asdict(content))

    def write(self, path: str, content: Any) -> None:
        """A JSON file, not flushed to the disk: tens of thousands are written for the full suite."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(canonical(content))
