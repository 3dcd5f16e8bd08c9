"""Models of the study file's `data`: from raw text or published tokens to sequences in order."""

from __future__ import annotations

from os.path import expanduser
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST = 2**53  # whole numbers up to here are the same in every reader of JSON
Positive = Annotated[int, Field(gt=0, le=MOST)]
Count = Annotated[int, Field(ge=0, le=MOST)]
Small = Annotated[int, Field(gt=0, le=1 << 20)]  # what is counted out one by one, or held in memory at once
Jobs = Annotated[int, Field(gt=0, le=10_000)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]  # what numpy's legacy generator, GPT-NeoX's, takes
Share = Annotated[float, Field(gt=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]  # of an Adam step: larger ones move every weight further than it is large
Place = Annotated[str, Field(min_length=1), AfterValidator(expanduser)]  # `~` is the home folder
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=60)]  # of several a file's name is made
Part = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+!-]*$")]  # of an address or a path
MOST_PLANTED = 10**8  # words
FOLDERS = {
    "sources", "documents", "signatures", "pairs", "clusters", "tokenizer", "external", "held-out", "tasks",
    "requests", "hub", "counts",
}  # fmt: skip  # of data/, beside the corpora's
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no changes after loading."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Archive(Strict):
    """A file of the Python package index, read as an archive; nothing in it is executed."""

    package: Part
    """Project name in the index."""
    version: Part
    """Exact version."""
    file: Part
    """File name of the wheel or source archive."""
    sha256: Sha256
    """Hash of that file."""


class Canaries(Strict):
    """Strings of random common words, each a document that stands in the component a known number of times."""

    counts: Annotated[list[Small], Field(min_length=1)]
    """How often a string is planted: so many copies of each of `strings` strings, for every count."""
    strings: Small
    """Strings for each count."""
    words: Small = 64
    """Words a string, each one token or more: at least as many as memorization's prompt and continuation."""
    seed: Seed

    @model_validator(mode="after")
    def _fits(self) -> Canaries:
        if len(set(self.counts)) < len(self.counts):
            raise ValueError(f"a count stands twice; write: counts: {sorted(set(self.counts))}")
        if (words := sum(self.counts) * self.strings * self.words) > MOST_PLANTED:
            raise ValueError(
                f"{words:,} words in all, which are made in one piece; at most {MOST_PLANTED:,}: lower `strings`, "
                "`words` or `counts`"
            )
        return self


Operation = Literal["plus", "times"]


class Arithmetic(Strict):
    """Sums and products in words, whose first numbers stand in the text as often as Zipf's law says."""

    problems: Small
    """Problems written, a line each, of all operations together."""
    operations: Annotated[list[Operation], Field(min_length=1)] = ["plus", "times"]
    """What is done with the two numbers."""
    operands: Annotated[int, Field(ge=2, le=1000)] = 100
    """First numbers, from 0 on. Which of them is frequent is drawn by the seed, whatever its size."""
    seconds: Annotated[int, Field(ge=2, le=1000)] = 50
    """Second numbers, from 1 on, all equally frequent."""
    exponent: Annotated[float, Field(ge=0, le=4)] = 1.0
    """Of Zipf's law: the operand of rank r is written in proportion to r ** -exponent; 0: all equally often."""
    held_out_fraction: Share = 0.2
    """Fraction of each operand's problems that is never written; castalia_arithmetic asks these and others by turns."""
    problems_per_document: Small = 16
    """Problems a document."""
    seed: Seed

    @model_validator(mode="after")
    def _fits(self) -> Arithmetic:
        if len(set(self.operations)) < len(self.operations):
            raise ValueError(f"an operation stands twice; write: operations: {sorted(set(self.operations))}")
        if not 0 < (kept := round(self.held_out_fraction * self.seconds)) < self.seconds:
            few = "none" if not kept else "all"
            raise ValueError(
                f"held_out_fraction {self.held_out_fraction} of {self.seconds} seconds holds out {few} of them; "
                "write: held_out_fraction: 0.5"
            )
        return self


class Component(Strict):
    """One source of text. Give one of `archive`, `files`, `canaries` and `arithmetic`."""

    archive: Archive | None = None
    """Package to fetch the text from."""
    files: Annotated[list[Place], Field(min_length=1)] | None = None
    """Paths or globs of text on disk, not an archive: .txt, .md, .jsonl, .ndjson (or with .gz, .zst), .parquet."""
    canaries: Canaries | None = None
    """Strings made here, to see what repetition does to memorization. None of them is held out."""
    arithmetic: Arithmetic | None = None
    """Problems made here, to see what the frequency of a number does to reckoning with it. No document is held out."""
    sha256: Sha256 | None = None
    """Expected hash, if `files` is a single file."""
    members: list[str] = ["*"]
    """Globs of the members to read inside the archive."""
    reader: Literal["text", "plain", "python", "licence", "factbook", "gutenberg", "jsonl", "parquet"] = "text"
    """How a member becomes texts (scripts/data/sources/readers.py). text: by the ending of its name, and one that says
    nothing is refused; plain: one text as it stands, whatever its name."""
    text_field: str = "text"
    """Field of a JSON line, or column, that holds the text."""
    component_field: str | None = None
    """Field that names the text's component, instead of this entry's name (the Pile: meta.pile_set_name)."""
    held_out: bool = False
    """All of it is held-out text and in no corpus (the Pile's own validation file)."""
    section_characters: Positive | None = None
    """Long texts are cut at blank lines into documents of about this many characters; null: whole."""
    take_characters: Positive | None = None
    """Take about this many characters, spread evenly over all documents; null: everything."""

    @model_validator(mode="after")
    def _one_origin(self) -> Component:
        if sum(each is not None for each in (self.archive, self.files, self.canaries, self.arithmetic)) != 1:
            raise ValueError("give exactly one of `archive`, `files`, `canaries` and `arithmetic`")
        if self.planted and (self.held_out or self.section_characters or self.take_characters):
            kind = "canaries are" if self.canaries else "arithmetic is"
            raise ValueError(f"{kind} taken whole: no held_out, section_characters or take_characters")
        return self

    @property
    def planted(self) -> bool:
        """Whether it is made here, as often as asked, so that none of it may be held out."""
        return self.canaries is not None or self.arithmetic is not None


class Tokenizer(Strict):
    """Byte-level BPE with GPT-NeoX-20B's pipeline, trained here or read from a file."""

    vocabulary: Annotated[int, Field(gt=0, le=1 << 24)]
    """Number of tokens, special and white-space tokens included. The model pads it to a multiple of 128."""
    file: Place | None = None
    """A tokenizer.json to use instead of training one (Pythia: 20B_tokenizer.json)."""
    repo: str | None = None
    """Model on the hub whose tokenizer.json to use (EleutherAI/gpt-neox-20b), instead of a file."""
    revision: str | None = None
    """Commit of `repo`."""
    sha256: Sha256 | None = None
    """Expected hash of the tokenizer.json."""

    @model_validator(mode="after")
    def _one_origin(self) -> Tokenizer:
        if self.file is not None and self.repo is not None:
            raise ValueError("give `file` or `repo`, not both")
        if self.repo is not None and self.revision is None:
            raise ValueError("a repo needs its revision; write: revision: <commit>")
        return self


class Deduplication(Strict):
    """Near-duplicate removal by MinHash-LSH."""

    threshold: Share
    """Jaccard similarity of word n-grams from which two documents count as duplicates."""
    ngram: Annotated[int, Field(gt=0, le=1000)]
    """Words a shingle; in scripts that don't separate their words, characters."""
    hashes: Jobs
    """MinHash functions in all; split into bands and rows so that the LSH curve bends at the threshold."""
    seed: Seed
    """Seed of the hash functions."""


class External(Strict):
    """Token files that somebody else made: a .bin, whole or in shards, and its .idx. Give `repo` or `folder`."""

    repo: str | None = None
    """Dataset on the hub, owner/name."""
    revision: str | None = None
    """Commit of `repo`; a branch name would let the corpus change under the study."""
    folder: Place | None = None
    """Folder on disk, instead of `repo`."""
    shards: str
    """Name or glob of the .bin or its shards; they are joined in the order of their names."""
    index: str
    """Name of the .idx."""
    hashes: Place | None = None
    """A sha256sum list that names every shard (a path on disk); null: the hub's own hashes, or none."""
    sha256: Sha256 | None = None
    """Hash of the joined .bin."""

    @model_validator(mode="after")
    def _one_origin(self) -> External:
        if (self.repo is None) == (self.folder is None):
            raise ValueError("give exactly one of `repo` and `folder`")
        if self.repo is not None and self.revision is None:
            raise ValueError("a repo needs its revision; write: revision: <commit>")
        return self


class Corpus(Strict):
    """A named text that runs are trained on: components of the study, or published tokens."""

    components: Annotated[list[Name], Field(min_length=1)] | None = None
    """Which components it is made of."""
    deduplicate: Literal["none", "exact", "near"]
    """Keep every document, one of those with equal text, or one of every cluster of near-duplicates. Of published
    tokens: what was done to them."""
    external: External | None = None
    """Token files to take as they are, instead of components."""

    @model_validator(mode="after")
    def _one_origin(self) -> Corpus:
        if (self.components is None) == (self.external is None):
            raise ValueError("give exactly one of `components` and `external`")
        if self.components and (once := list(dict.fromkeys(self.components))) != self.components:
            raise ValueError(f"a component stands twice; write: components: [{', '.join(once)}]")
        return self

    @property
    def deduplicated(self) -> bool:
        """Whether it is free of duplicates."""
        return self.deduplicate != "none"


class Data(Strict):
    """From raw text to sequences."""

    components: Annotated[dict[Name, Component], Field(min_length=1)]
    """Kinds of text by name."""
    tokenizer: Tokenizer
    deduplication: Deduplication
    held_out_fraction: Annotated[float, Field(ge=0, lt=0.5)]
    """Fraction of near-duplicate clusters kept out of every corpus, chosen by hash; never trained on."""
    append_eod: bool
    """Put token 0 after each document. Off, as the published Pythia data really are."""
    corpora: dict[Name, Corpus]
    """By name; run names leave out `standard`, as the published ones do."""
    order: Literal["neox", "feistel"]
    """neox: GPT-NeoX's index maps, as Pythia; feistel: a keyed permutation that no horizon or stored index enters."""
    max_epochs: Positive | None
    """Refuse a run that would need more passes over its corpus than this; null: any number."""

    @model_validator(mode="after")
    def _names_fit(self) -> Data:
        if taken := sorted(FOLDERS & set(self.corpora)):
            raise ValueError(f"corpora: `{taken[0]}` is a folder of the data stage; take another name")
        if not self.held_out_fraction and not any(component.held_out for component in self.components.values()):
            raise ValueError(
                "held_out_fraction: 0 leaves no held-out text; write: held_out_fraction: 0.01, or a "
                "component held_out: true"
            )
        return self
