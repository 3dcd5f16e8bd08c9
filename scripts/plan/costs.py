"""What a study takes on a device: FLOPs, device-hours, wall time, bytes, jobs, cost; from the study alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from scripts.common.errors import UserError, explain
from scripts.plan.jobs import jobs_by_rule, jobs_of
from scripts.plan.work import Work, not_counted, own_samples, scored_sequences, work
from scripts.study import sampling
from scripts.study.devices import Device, rate_of
from scripts.study.runs import Run
from scripts.study.sampling import Drawn
from scripts.study.storage import NOTHING, ORDER_A_SEQUENCE, TOKEN, Kept, kept, optimizer_bytes, results_bytes
from scripts.study.study import Study

STAGE_NAMES = {"held_out": "held-out loss", "starting": "starting jobs"}  # of `Hours`, where its own is none


@dataclass(frozen=True)
class Hours:
    """Device-hours by stage, as `Work` has their FLOPs; None: not counted."""

    training: float
    held_out: float | None
    evaluation: float | None
    memorization: float
    export: float
    replay: float
    recency: float
    starting: float | None

    @property
    def by_stage(self) -> dict[str, float | None]:
        """Each under the name that is shown."""
        return {STAGE_NAMES.get(stage, stage): hours for stage, hours in vars(self).items()}

    @property
    def total(self) -> float:
        """Of everything that is counted."""
        return sum(hours for hours in self.by_stage.values() if hours is not None)


@dataclass(frozen=True)
class RunPlan:
    """One run. `basis` says where its speed is from; `wall_hours` is training on `devices` devices."""

    run: str
    size: str
    corpus: str
    precision: str
    parameters: int
    non_embedding: int
    tokens: int
    flops: Work
    flops_per_second: float
    basis: str
    hours: Hours
    devices: int
    wall_hours: float
    checkpoints: int
    optimizer_states: int
    bytes: Kept
    results_bytes: int
    optimizer_bytes_at_all_steps: int


@dataclass(frozen=True)
class Plan:
    """A study on a device. Bytes of `data` are the least that the corpora can be."""

    study: str
    device: str
    what: str
    speed_source: str
    job_start_seconds: float | None
    price: float | None
    runs: list[RunPlan]
    jobs: dict[str, int]
    data_bytes: int
    not_counted: list[str]
    notes: list[str] = field(default_factory=list)

    @property
    def hours(self) -> Hours:
        """Of all runs."""
        return Hours(**{field.name: self._sum_of(field.name) for field in fields(Hours)})

    def _sum_of(self, stage: str) -> Any:
        known = [value for plan in self.runs if (value := getattr(plan.hours, stage)) is not None]
        return sum(known) if known else None

    @property
    def bytes(self) -> Kept:
        """Of all runs."""
        return sum((plan.bytes for plan in self.runs), NOTHING)

    @property
    def kept_bytes(self) -> int:
        """What lies there at the end."""
        return self.bytes.total + sum(plan.results_bytes for plan in self.runs) + self.data_bytes

    @property
    def peak_bytes(self) -> int:
        """Most there is at a time: all that is kept, while every run writes its last checkpoint."""
        return self.kept_bytes + self.bytes.resume

    @property
    def cost(self) -> float | None:
        """Device-hours times the price, in its currency."""
        return None if self.price is None else self.hours.total * self.price

    def as_json(self) -> dict[str, Any]:
        """The content of results/plan.json."""
        totals = {
            "tokens": sum(plan.tokens for plan in self.runs),
            "training_flops": sum(plan.flops.training for plan in self.runs),
            "hours": asdict(self.hours) | {"total": self.hours.total},
            "longest_wall_hours": max(plan.wall_hours for plan in self.runs),
            "wall_hours_one_after_the_other": sum(plan.wall_hours for plan in self.runs),
            "bytes": asdict(self.bytes),
            "kept_bytes": self.kept_bytes,
            "peak_bytes": self.peak_bytes,
            "jobs": sum(self.jobs.values()),
            "cost": self.cost,
        }
        return asdict(self) | {"totals": totals}


def make_plan(study: Study, name: str, device: Device, devices: int | None = None, price: float | None = None) -> Plan:
    """The study on this device, each run on so many of them (None: as many as the size catalogue says)."""
    drawn = sampling.everything(study)
    runs = [plan_run(study, run_name, device, devices, drawn) for run_name in study.runs]
    source = device.measured.source if device.measured else (
        f"assumed: {device.assumed_mfu:.0%} of the data sheet's {device.peak_teraflops:g} TFLOP/s"
    )  # fmt: skip
    return Plan(
        study=study.file.study,
        device=name,
        what=device.what,
        speed_source=source,
        job_start_seconds=device.job_start_seconds,
        price=price,
        runs=runs,
        jobs=jobs_by_rule(study),
        data_bytes=data_bytes(study),
        not_counted=[*not_counted(study), *left_out(device)],
        notes=notes(study, runs, device),
    )


def plan_run(study: Study, name: str, device: Device, devices: int | None, drawn: Drawn | None = None) -> RunPlan:
    """One run of the study; `drawn` is what the audit draws of the study, if it is known already."""
    drawn = drawn or sampling.everything(study)
    spec, needed, rate = study.run(name), work(study, name, drawn), rate_of(device, study.run(name).size)
    asked = devices_of(spec, device, devices)
    start = device.job_start_seconds

    def hours(flops: int) -> float:
        return flops / rate.flops_per_second / 3600

    by_stage: dict[str, Any] = {stage: None if flops is None else hours(flops) for stage, flops in vars(needed).items()}
    return RunPlan(
        run=name,
        size=spec.size.name,
        corpus=spec.corpus,
        precision=spec.training.precision,
        parameters=spec.size.parameters(study.padded_vocabulary(name)),
        non_embedding=spec.size.non_embedding_parameters,
        tokens=spec.steps_trained * spec.training.batch_size * spec.training.sequence_length,
        flops=needed,
        flops_per_second=rate.flops_per_second,
        basis=rate.basis,
        hours=Hours(
            **by_stage,
            starting=None if start is None else start * sum(jobs_of(study, name, drawn).values()) / 3600,
        ),
        devices=asked,
        wall_hours=hours(needed.training) / asked,
        checkpoints=len(study.steps(name)),
        optimizer_states=len(study.optimizer_steps(name)),
        bytes=kept(study, name),
        results_bytes=results_bytes(
            study,
            name,
            own_samples(study),
            sum(scored_sequences(study, name, s) for s in study.memorization_steps(name)),
        ),
        optimizer_bytes_at_all_steps=sum(
            optimizer_bytes(study, name, step) for step in study.steps(name) if not spec.external
        ),
    )


def devices_of(spec: Run, device: Device, asked: int | None) -> int:
    """Devices of a run: as many as asked for, else at most as many as Pythia's size had. They must share its batch."""
    batch = spec.training.batch_size
    known = spec.size.gpus if device.kind == "cuda" else 1
    fits = [count for count in range(1, batch + 1) if batch % count == 0]
    if asked is None:
        return max(count for count in fits if count <= known)
    if asked not in fits:
        best = min(fits, key=lambda count: abs(count - asked))
        allowed = f"a divisor of {spec.name}'s batch_size {batch}"
        raise UserError(explain("--gpus", asked, allowed, f"--gpus {best}"))
    return asked


def left_out(device: Device) -> list[str]:
    """Stages that no formula here covers."""
    starting = [] if device.job_start_seconds else ["starting jobs"]
    return [
        ", ".join(
            [*starting, "loading models, saving, conversion, GGUF files, the data stage, its replay and the report"]
        )
    ]


def data_bytes(study: Study) -> int:
    """The least that tokens.bin of the corpora and the orders take, from the sequences read and data.max_epochs; the
    files a corpus is downloaded as lie there a second time."""
    data, total = study.file.data, 0
    for corpus, chosen in data.corpora.items():
        readers = [spec for spec in study.runs.values() if spec.corpus == corpus]
        if not readers:
            continue
        tokens = max(spec.sequences * spec.training.sequence_length for spec in readers) // (data.max_epochs or 1)
        copies = 2 if chosen.external and chosen.external.repo else 1
        total += tokens * TOKEN * (1 if data.tokenizer.vocabulary < 65_500 else 2) * copies
        if data.order == "neox":
            total += ORDER_A_SEQUENCE * sum({spec.data_seed: spec.sequences for spec in readers}.values())
    return total


def notes(study: Study, runs: list[RunPlan], device: Device) -> list[str]:
    """What a reader must know of the numbers."""
    found = ["Scoring is planned at the FLOP/s of training."]
    if borrowed := sorted({f"{plan.size} ({plan.basis})" for plan in runs if plan.basis.startswith("as ")}):
        found.append(f"Not measured on this device, planned at the FLOP/s of the nearest size: {', '.join(borrowed)}.")
    if device.measured is None:
        found.append("No throughput was measured on this device: all hours rest on the assumed fraction of its peak.")
    if device.kind == "cuda" and any(plan.precision == "fp32" for plan in runs):
        found.append("Speeds are of 16-bit training; runs in fp32 take longer.")
    if study.file.runtime.zero_stage == 0:
        found.append("With zero_stage 0 every checkpoint holds the optimizer state: more is kept than is planned here.")
    if device.kind == "cuda" and any(plan.hours.export for plan in runs):
        found.append("GGUF files are scored by llama.cpp on the processor, which takes longer than is planned here.")
    if any(plan.parameters < 50_000_000 for plan in runs) and device.kind == "cuda":
        found.append("Models this small don't fill a GPU: their hours are a lower bound.")
    return found
