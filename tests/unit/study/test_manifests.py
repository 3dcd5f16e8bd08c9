"""Every kind of manifest: where it lies, and what docs/formats.md says of it."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from scripts.common.environment import ROOT
from scripts.common.files import canonical, parse_json
from scripts.common.manifest import Manifest, ManifestFacts, parse
from scripts.study.manifests import MANIFEST_KINDS, MANIFESTS, kind_at
from tests.fakes import without_facts

FORMATS = (ROOT / "docs/formats.md").read_text().splitlines()


@pytest.mark.parametrize("kind", MANIFEST_KINDS, ids=lambda kind: kind.kind)
def test_facts_come_back_as_they_were_written_and_stand_in_the_docs(kind: type[ManifestFacts]) -> None:
    content = Manifest(1, kind.kind, {}, True, {}, "", {}, {}, without_facts(kind))
    assert parse(parse_json(canonical(asdict(content))), MANIFEST_KINDS) == content
    (sequence,) = (line for line in FORMATS if line.startswith(f"| `{kind.kind}` |"))
    assert [field.name for field in fields(kind) if f"`{field.name}`" not in sequence] == []


def test_each_place_has_its_own_kind() -> None:
    assert len({kind.kind for kind in MANIFEST_KINDS}) == len(MANIFEST_KINDS)
    for folder, kind in MANIFESTS.items():
        assert kind_at(f"{str(folder).replace('*', '7')}/manifest.json") is kind
    assert kind_at("data/standard/order-7/record.json") is kind_at("data/manifest.json") is None
