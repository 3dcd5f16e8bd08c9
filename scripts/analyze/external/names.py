"""What the name of a published Pythia says: size, corpus, seed, which suite, whether an intervention.

A suite of 2022 (v0) and one of 2023 have models of one name; scores of v0 are kept under its old names (`pythia-19m`
is v0's 70m), as studies/pythia-v0.yaml names its runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

OLD_SIZES = {"19m": "70m", "125m": "160m", "350m": "410m", "800m": "1b", "1.3b": "1.4b", "2.7b": "2.8b",
             "6.7b": "6.9b", "13b": "12b"}  # fmt: skip
OLD_OF = {new: old for old, new in OLD_SIZES.items()}
DOUBLED = (
    "160m",
    "410m",
    "1.4b",
)  # v0 ran them on batches of 4M tokens and published step S as 2 S
NAME = re.compile(
    r"(?P<long>long-(?=intervention-))?(?P<before>intervention-)?(?P<family>pythia-)?(?P<within>intervention-)?"
    r"(?P<version>v1\.1-)?(?P<size>\d+(?:\.\d+)?[mb](?:-[\d.]+MtokBS)?)(?:-bf16)?(?P<corpus>-deduped)?"
    r"(?P<seed>-(?:(?:data|weight)-)?seed\d+)?(?P<v0>-v0)?(?P<ours>-intervention-pronouns)?(?P<after>-long)?"
)
BELOW = re.compile(r"(?:global_)?step[-_]?\d+|snapshots|[0-9a-f]{40}|main")  # folders within that of a model


@dataclass(frozen=True)
class ExternalModel:
    """`size` in today's names; `changed` is "", "pronouns" or "pronouns-long", as the published interventions are."""

    size: str
    corpus: str = ""
    seed: str = ""
    v0: bool = False
    changed: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The runs it may be a run of a study as, the name of its scores first: of v0 the old name, then today's."""
        change = f"-intervention-{self.changed}" if self.changed else ""
        today = f"{self.size}{self.corpus}{self.seed}"
        old = f"{OLD_OF.get(self.size, self.size)}{self.corpus}{self.seed}"
        return (f"pythia-{old}{change}", f"pythia-{today}-v0{change}") if self.v0 else (f"pythia-{today}{change}",)

    @property
    def step_in_revision(self) -> int:
        """What the number in a revision's name counts of each step: 2 where v0's batches were of 4M tokens."""
        return 2 if self.v0 and self.size in DOUBLED else 1

    def same_run(self, other: ExternalModel) -> bool:
        """Whether both are of one size, corpus and seed; folders do not tell suites and interventions apart."""
        return (self.size, self.corpus, self.seed) == (other.size, other.corpus, other.seed)

    def of_v0(self) -> ExternalModel:
        """The model of that name in the suite of 2022."""
        return replace(self, v0=True)


def model_of(name: str, *, bare: bool = False) -> ExternalModel | None:
    """The model of exactly this name, or None; `bare` allows one without "pythia-", as in file names."""
    found = NAME.fullmatch(name)
    if found is None or not (bare or found["family"]):
        return None
    changed, longer = found["before"] or found["within"] or found["ours"], found["long"] or found["after"]
    if longer and not changed:
        return None
    size = found["size"]
    v0 = not found["version"] and (size in OLD_SIZES or found["v0"] is not None)
    return ExternalModel(OLD_SIZES.get(size, size), found["corpus"] or "", found["seed"] or "", v0,
                          "pronouns-long" if longer else "pronouns" if changed else "")  # fmt: skip


def model_in(path: str) -> ExternalModel | None:
    """The model that a hub's name or a folder is named after, steps aside: EleutherAI/<name>, models/<name>/step3000.

    A folder below it that is no step may hold anything, so such a path names none.
    """
    parts = [part for part in re.split(r"[/\\]|__|--", path) if part]
    while parts and BELOW.fullmatch(parts[-1]):
        parts.pop()
    return model_of(parts[-1]) if parts else None
