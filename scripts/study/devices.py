"""The table of devices, profiles/devices.yaml: how fast each is, and where that number is from."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from scripts.common.environment import ROOT
from scripts.common.errors import UserError, explain, near
from scripts.common.files import read_yaml
from scripts.common.yaml_text import line
from scripts.study.catalogue import CATALOGUE, Size, padded_vocabulary
from scripts.study.config.data import Name, Positive, Share, Strict
from scripts.study.runs import forward_flops_per_token

TABLE = ROOT / "profiles/devices.yaml"
Amount = Annotated[float, Field(gt=0, strict=False)]


class Measured(Strict):
    """Training speed by size. Give either `tokens_per_second`, or `hours` and `tokens`."""

    source: str
    sequence_length: Positive
    vocabulary: Positive
    tokens_per_second: dict[str, Amount] | None = None
    hours: dict[str, Amount] | None = None
    tokens: Positive | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Measured:
        if (self.tokens_per_second is None) == (self.hours is None) or (self.hours is None) != (self.tokens is None):
            raise ValueError("give either `tokens_per_second`, or `hours` and the `tokens` of the run they are of")
        if not self.rates:
            raise ValueError("no size stands there; write: tokens_per_second: {1.7m: 4000}")
        for name in self.rates:
            if name not in CATALOGUE:
                raise ValueError(explain("size", name, ", ".join(CATALOGUE), near(name, list(CATALOGUE))))
        return self

    @property
    def rates(self) -> dict[str, float]:
        """Tokens per second of one device, by size."""
        if self.tokens_per_second is not None:
            return self.tokens_per_second
        return {name: (self.tokens or 0) / (3600 * hours) for name, hours in (self.hours or {}).items()}

    def flops_per_second(self, name: str) -> float:
        """FLOP/s that the size's tokens per second come to."""
        size = CATALOGUE[name]
        vocabulary = padded_vocabulary(self.vocabulary, size.tensor_parallel)
        return self.rates[name] * 3 * forward_flops_per_token(size, vocabulary, self.sequence_length)


class Device(Strict):
    """One row of the table."""

    what: str
    kind: Literal["cuda", "cpu"]
    gpu: str | None = None
    peak_teraflops: Amount | None = None
    measured: Measured | None = None
    assumed_mfu: Share | None = None
    job_start_seconds: Amount | None = None

    @model_validator(mode="after")
    def _one_speed(self) -> Device:
        if (self.measured is None) == (self.assumed_mfu is None):
            raise ValueError("give either `measured` or `assumed_mfu`")
        if self.assumed_mfu is not None and self.peak_teraflops is None:
            raise ValueError("`assumed_mfu` is a fraction of `peak_teraflops`, which is missing")
        return self


@dataclass(frozen=True)
class Rate:
    """FLOP/s of one device in training; `basis` says where it is from: measured, as <size> or assumed."""

    flops_per_second: float
    basis: str


def rate_of(device: Device, size: Size) -> Rate:
    """The device's speed for a size: measured, that of the nearest measured size, or the assumed fraction of peak."""
    if device.measured is None:
        return Rate((device.peak_teraflops or 0) * 1e12 * (device.assumed_mfu or 0), "assumed")
    if size.name in device.measured.rates and size == CATALOGUE[size.name]:
        return Rate(device.measured.flops_per_second(size.name), "measured")
    nearest = min(device.measured.rates, key=lambda name: _distance(CATALOGUE[name], size))
    return Rate(device.measured.flops_per_second(nearest), f"as {nearest}")


def _distance(one: Size, other: Size) -> float:
    return abs(log(one.non_embedding_parameters / other.non_embedding_parameters))


def read_devices(path: Path = TABLE) -> dict[str, Device]:
    """The table by name, in its order; raises UserError that lists every mistake in it."""
    if not path.exists():
        raise UserError(f"{path}: no such table of devices")
    try:
        return TypeAdapter(dict[Name, Device]).validate_python(read_yaml(path))
    except ValidationError as error:
        raise UserError("\n".join(_told(mistake, path) for mistake in error.errors())) from None


def _told(mistake: Any, path: Path) -> str:
    """One mistake in the table: key, value, what is allowed."""
    places = [str(place) for place in mistake["loc"] if place != "[key]"]
    key, said = f"{path}: {'.'.join(places)}", mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        known = list((Measured if "measured" in places[:-1] else Device).model_fields)
        guess = near(places[-1], known)
        return explain(key, places[-1], ", ".join(known), line(guess, mistake["input"]) if guess else None)
    return f"{key}: {said}" if mistake["type"] == "value_error" else explain(key, mistake["input"], said)


def choose(devices: dict[str, Device], asked: str | None, kind: str) -> str:
    """The device asked for, or the first of the kind; raises UserError with the near name."""
    if asked is None:
        asked = next((name for name, device in devices.items() if device.kind == kind), None)
        if asked is None:
            raise UserError(f"no device of kind {kind} stands in the table; name one: --device {next(iter(devices))}")
    if asked not in devices:
        guess = near(asked.lower(), list(devices))
        fix = f"--device {guess}" if guess else f"a row of that name in {TABLE.parent.name}/{TABLE.name}"
        raise UserError(explain("--device", asked, ", ".join(devices), fix))
    return asked


def peak_of_gpu(name: str) -> float | None:
    """FLOP/s of the GPU that CUDA knows by this name, or None if the table doesn't have it."""
    for device in read_devices().values():
        if device.gpu and device.gpu in name and device.peak_teraflops:
            return device.peak_teraflops * 1e12
    return None
