"""From archives and files to documents: members, readers, sections, shares."""

import gzip
import io
import json
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.data import streams
from scripts.data.documents import documents_of, files_fetched, taken, write_block
from scripts.data.sources import archives, fetch
from scripts.data.sources.archives import glob_regex, read_members, select
from scripts.data.sources.readers import READERS, Text, chosen_fraction, cut, plain, tidy
from scripts.data.streams import Document, document_id, read_documents, write_documents
from scripts.study import paths
from scripts.study.config.data import Archive, Component
from scripts.study.manifests import Characters, DocumentsFacts, RawFile, SourceFacts
from scripts.study.texts import files_of, reader_for, share

TEXTS = st.text(alphabet="ab \n", max_size=400)


def component(**changes: object) -> Component:
    return Component.model_validate({"files": ["*.txt"], **changes})


def of_files(chosen: Component) -> list[Document]:
    """Documents of a component's files on disk."""
    return list(taken("c", chosen, files_of("c", chosen)))


def document(text: str, origin: str = "m") -> Document:
    return Document(document_id(text), text, "c", origin)


# --- members -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        ("a/*.txt", "a/b.txt", True),
        ("a/*.txt", "a/b/c.txt", False),
        ("a/**/*.txt", "a/c.txt", True),
        ("a/**/*.txt", "a/b/b/c.txt", True),
        ("*.txt", "a/b/c.txt", True),  # no "/": the last part only
        ("*", "a/b", True),
        ("a/?.[!c]", "a/b.d", True),
        ("a/?.[!c]", "a/b.c", False),
        ("a/b.t+t", "a/b.t+t", True),
        ("a/b.txt", "a/bxtxt", False),
        ("*/n_[1-8]??.RULE", "x/n_812.RULE", True),
        ("*/n_[1-8]??.RULE", "x/n_912.RULE", False),
    ],
)
def test_globs(pattern: str, name: str, fits: bool) -> None:
    assert bool(glob_regex(pattern).fullmatch(name)) is fits


def test_a_glob_that_fits_nothing_is_refused_by_name() -> None:
    assert select(["b.txt", "a.txt", "c.md"], ["*.txt"], "z.whl") == ["a.txt", "b.txt"]
    with pytest.raises(UserError, match=r"z\.whl: nothing in it fits '\*\.rst'; it holds 1 files, such as a\.txt"):
        select(["a.txt"], ["*.txt", "*.rst"], "z.whl")


def archive(path: Path, contents: dict[str, bytes]) -> Path:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path, "w") as packed:
            for name, content in contents.items():
                packed.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as packed:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["p.whl", "p.tar.gz"])
def test_members_are_read_in_place_and_in_order(name: str, tmp_path: Path) -> None:
    path = archive(tmp_path / name, {"p/b.txt": b"B", "../../evil.txt": b"E", "p/a.txt": b"A", "p/x.py": b"X"})
    assert list(read_members(path, ["p/*.txt"]).items()) == [("p/a.txt", b"A"), ("p/b.txt", b"B")]
    with pytest.raises(UserError, match=r"its member '\.\./\.\./evil\.txt' names a place outside the archive"):
        read_members(path, ["**/evil.txt"])
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["p.whl", "p.tar.gz"])
def test_a_member_too_large_for_a_text_is_refused_unread(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "LARGEST", 10)
    path = archive(tmp_path / name, {"p/a.txt": b"x" * 11, "p/b.txt": b"y"})
    assert read_members(path, ["b.txt"]) == {"p/b.txt": b"y"}
    with pytest.raises(UserError, match=r"its member p/a\.txt has 11 bytes"):
        read_members(path, ["*.txt"])


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"nonsense"])
@pytest.mark.parametrize("name", ["p.whl", "p.tar.gz"])
def test_damaged_archives_are_refused_by_name(name: str, damage, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = archive(tmp_path / name, {f"p/{n}.txt": bytes(range(256)) * 8 for n in range(20)})
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="not a readable zip or tar archive"):
        read_members(path, ["*.txt"])


@pytest.mark.parametrize("kind", ["gz", "xz", "bz2"])
def test_a_flipped_bit_in_a_packed_archive_is_found(kind: str, tmp_path: Path) -> None:
    path, content = tmp_path / f"p.tar.{kind}", random.Random(1).randbytes(200_000)
    with tarfile.open(path, f"w:{kind}") as packed:  # type: ignore[call-overload]
        info = tarfile.TarInfo("p/a.txt")
        info.size = len(content)
        packed.addfile(info, io.BytesIO(content))
    assert read_members(path, ["*.txt"]) == {"p/a.txt": content}
    damaged = bytearray(path.read_bytes())
    damaged[100_000] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(UserError, match="not a readable zip or tar archive"):
        read_members(path, ["*.txt"])


def test_a_zip_of_a_kind_that_is_not_read_is_named_as_such(tmp_path: Path) -> None:
    path = archive(tmp_path / "p.whl", {"p/a.txt": b"A"})
    content = bytearray(path.read_bytes())
    for at in (8, content.rfind(b"PK\x01\x02") + 10):
        content[at] = 93  # Zstandard
    path.write_bytes(content)
    with pytest.raises(UserError, match="not readable here"):
        read_members(path, ["*.txt"])


# --- readers -------------------------------------------------------------------------------------


def texts(reader: str, content: bytes, name: str = "m", **changes: object) -> list[str]:
    return [text.text for text in READERS[reader](name, io.BytesIO(content), component(**changes))]


def test_line_ends_are_one_kind_and_bad_utf8_is_refused_by_member() -> None:
    assert texts("text", b"\xef\xbb\xbfa\r\nb\rc\n") == ["a\nb\nc\n"]
    with pytest.raises(UserError, match=r"p/x\.txt: not UTF-8 \(byte 1"):
        texts("text", b"a\xff", "p/x.txt")


def test_a_licence_loses_its_head_and_its_line_wrapping() -> None:
    content = b"---\nkey: mit\nname: MIT\n---\n\nPermission is\n   granted\n --- to all\n\n\nWithout  warranty\n"
    assert texts("licence", content) == ["Permission is granted --- to all\n\nWithout warranty"]
    assert texts("licence", b"no head\n") == ["no head"]


def test_gutenberg_keeps_what_stands_between_the_marks() -> None:
    start, end = (f"*** {mark} OF THE PROJECT GUTENBERG EBOOK X ***".encode() for mark in ("START", "END"))
    content = b"\n".join([b"terms", start, b"play", end, b"more"])
    assert [text.strip() for text in texts("gutenberg", content)] == ["play"]
    assert texts("gutenberg", b"only the play") == ["only the play"]


def test_a_country_becomes_titled_prose_without_html() -> None:
    country = {
        "Geography": {
            "Area": {"total ": {"text": "12 sq km"}, "land": {"text": "10&nbsp;sq km"}, "note": "small"},
            "Climate": {"text": "<p>mild<br>wet &amp; <em>green</em></p>"},
        },
        "Government": {"Country name": {"conventional short form": {"text": "none"},
                                        "conventional long form": {"text": "Land of X"}}},
    }  # fmt: skip
    (text,) = texts("factbook", json.dumps(country).encode())
    assert text.startswith(
        "Land of X: Geography\n\nArea:\ntotal: 12 sq km\nland: 10 sq km\nnote: small\n\nClimate: mild\nwet"
    )
    assert "wet & green" in text
    assert "<" not in text
    with pytest.raises(UserError, match=r"x\.json: not JSON"):
        texts("factbook", b"{", "x.json")


def test_html_is_text_without_tags() -> None:
    assert plain("a<b>b</b> &lt;c&gt;  d<br/><br/>e") == "ab <c> d\ne"


@pytest.mark.parametrize(
    ("name", "pack"),
    [("d.jsonl", bytes), ("d.jsonl.gz", gzip.compress), ("D.JSONL.ZST", zstandard.ZstdCompressor().compress)],
)
def test_json_lines_plain_and_packed(name: str, pack) -> None:  # type: ignore[no-untyped-def]
    content = b'{"text": "one\\r\\ntwo"}\n\n{"text": "three", "meta": 1}\n'
    read = list(READERS["jsonl"](name, io.BytesIO(pack(content)), component()))
    assert read == [Text(f"{name}:1", "one\r\ntwo"), Text(f"{name}:3", "three")]


@pytest.mark.parametrize(
    ("name", "reader", "found"),
    [
        ("a.txt", "text", "text"),
        ("a/README.MD.gz", "text", "text"),
        ("00.jsonl.zst", "text", "jsonl"),
        ("00.JSONL", "text", "jsonl"),
        ("00.ndjson.ZST", "text", "jsonl"),
        ("00.Parquet", "text", "parquet"),
        *((f"c4-train.00000-of-01024.{ending}", "jsonl", "jsonl") for ending in ("json.gz", "json.zst", "json", "any")),
        *((f"a.{ending}", "text", None) for ending in ("json.gz", "json.zst", "json", "csv", "tsv.gz", "gz", "1")),
        ("README", "text", None),
        ("README", "plain", "plain"),
        ("a.py", "python", "python"),
        *((f"00.jsonl.{packing}", "jsonl", None) for packing in ("bz2", "xz", "zip", "zstd", "tar.gz")),
        ("00.parquet.gz", "text", None),
    ],
)
def test_an_ending_that_says_nothing_is_refused_before_the_first_job(
    name: str, reader: str, found: str | None, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    asked = component(files=[str(path)], reader=reader)
    if found:
        assert (files_of("c", asked), reader_for("c", name, asked)) == ([path], found)
    else:
        with pytest.raises(UserError, match=rf"data\.components\.c: .*{path.name}.* is not allowed(.|\n)*  write: "):
            files_of("c", asked)


def test_members_of_archives_are_known_by_their_endings_too() -> None:
    content = b'{"text": "one"}\n{"text": "two"}\n'
    read = documents_of("c", component(), [("p/a.jsonl", io.BytesIO(content))])
    assert [document.text for document in read] == ["one", "two"]
    with pytest.raises(UserError, match=r"p/a\.json' is not allowed"):
        list(documents_of("c", component(), [("p/a.json", io.BytesIO(content))]))
    plainly = component(reader="plain")
    assert [each.text for each in documents_of("c", plainly, [("p/a.json", io.BytesIO(content))])] == [content.decode()]


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (b'{"text": "a"}\n{"txt": "b"}', r"d\.jsonl:2: expected a JSON object with a string field 'text'; found txt"),
        (b'{"text": "a"}\n{"text": ', r"d\.jsonl:2: not JSON"),
        (b'{"text": 5}', r"d\.jsonl:1: field 'text' is int, not text"),
        (b'{"text": null}', r"d\.jsonl:1: expected .* found text, or it is null"),
        (b"[" * 100_000, r"d\.jsonl:1: not JSON"),
        (b'{"n": ' + b"9" * 5000 + b"}", r"d\.jsonl:1: not JSON \(Exceeds the limit"),
        (b'{"text": "\\ud800"}', r"d\.jsonl:1: not UTF-8"),
    ],
)
def test_bad_json_lines_are_refused_by_line(content: bytes, fact: str) -> None:
    with pytest.raises(UserError, match=fact):
        texts("jsonl", content, "d.jsonl")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress])
@pytest.mark.parametrize(
    "damage", [lambda b: b[:-3], lambda b: b"", lambda b: b"nonsense", lambda b: b[:20] + b"x" * 20 + b[40:]]
)
def test_damaged_compression_is_refused(pack, damage) -> None:  # type: ignore[no-untyped-def]
    name = "d.jsonl.gz" if pack is gzip.compress else "d.jsonl.zst"
    lines = "\n".join(json.dumps({"text": f"{n * n}"}) for n in range(200))
    assert len(texts("jsonl", pack(lines.encode()), name)) == 200
    with pytest.raises(UserError, match=rf"{name}: damaged compression"):
        texts("jsonl", damage(pack(lines.encode())), name)


def test_frames_that_take_more_memory_than_promised_are_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    """As zstd --long=28 writes them, here against a lower bound."""
    line = b'{"text": "a"}\n'
    asked = zstandard.ZstdCompressionParameters.from_level(3, window_log=20)
    packer = zstandard.ZstdCompressor(compression_params=asked).compressobj()
    wide = packer.compress(line) + packer.flush()
    narrow = zstandard.ZstdCompressor().compress(line)
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"notes"  # as pzstd writes before its frames
    assert texts("jsonl", narrow + skipped + wide, "d.jsonl.zst") == ["a", "a"]
    monkeypatch.setattr(streams, "WINDOW", 1 << 19)
    for packed in (wide, narrow + wide):
        fact = r"d\.jsonl\.zst: written with a window of 1 MiB \(zstd --long\).*\n.*zstd -d --long=31"
        with pytest.raises(UserError, match=fact):
            texts("jsonl", packed, "d.jsonl.zst")


def test_a_frame_with_a_dictionary_is_named_as_such() -> None:
    dictionary = zstandard.train_dictionary(1024, [f"sample {n} {n * n}".encode() for n in range(2000)])
    packed = zstandard.ZstdCompressor(dict_data=dictionary).compress(b'{"text": "a"}\n')
    with pytest.raises(UserError, match=rf"d\.jsonl\.zst: written with the dictionary {dictionary.dict_id()}"):
        texts("jsonl", packed, "d.jsonl.zst")


def test_several_zstandard_frames_are_one_file() -> None:
    pack = zstandard.ZstdCompressor().compress
    assert texts("jsonl", pack(b'{"text": "a"}\n') + pack(b'{"text": "b"}\n'), "d.jsonl.zst") == ["a", "b"]


def test_the_piles_layout_keeps_its_components() -> None:
    content = b'{"text": "a", "meta": {"pile_set_name": "Pile-CC"}}\n{"text": "b", "meta": {}}\n'
    pile = component(component_field="meta.pile_set_name")
    read = READERS["jsonl"]("00.jsonl", io.BytesIO(content), pile)
    assert next(read) == Text("00.jsonl:1", "a", "Pile-CC")
    with pytest.raises(UserError, match=r"00\.jsonl:2: .* string field 'meta\.pile_set_name'; found text, meta"):
        next(read)


def test_parquet_rows_and_an_absent_column(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"body": ["a\r\nb", "c"], "meta": [{"set": "x"}, {"set": "y"}]}), tmp_path / "d.parquet")
    chosen = component(files=[str(tmp_path / "*.parquet")], text_field="body", component_field="meta.set")
    name = (tmp_path / "d.parquet").as_posix()
    read = [(d.origin, d.text, d.component) for d in of_files(chosen)]
    assert read == [(f"{name}:1", "a\r\nb", "x"), (f"{name}:2", "c", "y")]
    with pytest.raises(UserError, match=r"d\.parquet: no column 'text'; it has body, meta"):
        of_files(component(files=[name]))
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UserError, match=r"d\.parquet: not a readable parquet file"):
        of_files(component(files=[name]))


@pytest.mark.parametrize("name", ["b.jsonl.zst", "b.jsonl.gz"])
def test_a_bomb_is_refused_in_bounded_memory(name: str, tmp_path: Path) -> None:
    """A gigabyte of one letter under a hundred kilobytes or so."""
    import subprocess
    import sys

    letters = b"x" * (1 << 24)
    with (tmp_path / name).open("wb") as packed:
        if name.endswith(".gz"):
            with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=1) as stream:
                for _ in range(64):
                    stream.write(letters)
        else:
            with zstandard.ZstdCompressor().stream_writer(packed) as stream:
                for _ in range(64):
                    stream.write(letters)
    code = (
        "import sys; from pathlib import Path; from scripts.data.documents import taken\n"
        "from scripts.study.config.data import Component\n"
        "from scripts.common.errors import UserError\n"
        "try: list(taken('c', Component(files=[sys.argv[1]]), [Path(sys.argv[1])]))\n"
        "except UserError as error: print(error)\n"
        # its own peak in kB: what rusage tells of a child holds that of the process which started it too
        "print(*[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / name)], capture_output=True, text=True, check=True
    )
    assert f"{name}:1: a line of more than 256 MiB" in done.stdout
    assert int(done.stdout.splitlines()[-1]) < 1_000_000


@given(
    files=st.lists(st.integers(), max_size=20).map(lambda numbers: [Path(str(n)) for n in numbers]),
    parts=st.integers(1, 8),
)
def test_parts_share_the_files_out_in_order(files: list[Path], parts: int) -> None:
    shares = [share(files, part, parts) for part in range(parts)]
    assert [path for mine in shares for path in mine] == files
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


# --- sections and shares ---------------------------------------------------------------------------


@given(text=TEXTS, characters=st.integers(1, 80))
def test_cutting_loses_only_white_space(text: str, characters: int) -> None:
    assert "".join("".join(cut(text, characters)).split()) == "".join(text.split())


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=60), characters=st.integers(50, 200))
def test_sections_are_about_the_size_asked_for(lengths: list[int], characters: int) -> None:
    sections = cut("\n\n".join("x" * length for length in lengths), characters)
    total = sum(lengths) + 2 * (len(lengths) - 1)
    assert all(len(section) <= 1.25 * characters + 32 for section in sections)
    assert all(len(section) >= characters / 4 for section in sections) or total < characters / 4


def test_texts_without_blank_lines_are_cut_at_line_ends() -> None:
    text = "\n".join(f"line {n:04}" for n in range(100))
    sections = cut(text, 200)
    assert "\n".join(sections) == text
    assert all(150 <= len(section) <= 250 for section in sections)


def test_tidy_keeps_indentation() -> None:
    assert tidy("\n\n  a  \n\tb\t\n\n") == "  a\n\tb"


def test_a_share_is_near_the_size_in_order_and_takes_equal_texts_together() -> None:
    documents = [document(f"{n % 200:03}" + "y" * 97, f"m{n}") for n in range(400)]
    ids = chosen_fraction(((d.id, len(d.text)) for d in documents), 10_000)
    taken = [d for d in documents if d.id in ids]
    assert sum(len(d.text) for d in taken) == 10_000
    assert {d.origin for d in taken if int(d.origin[1:]) < 200} == {
        f"m{int(d.origin[1:]) - 200}" for d in taken if int(d.origin[1:]) >= 200
    }
    quarter = [sum(100 * q <= int(d.origin[1:]) < 100 * (q + 1) for d in taken) for q in range(4)]
    assert min(quarter) > 10
    assert chosen_fraction(((d.id, len(d.text)) for d in documents), 10**9) == {d.id for d in documents}


def test_documents_are_numbered_sections_and_empty_ones_are_dropped() -> None:
    contents = [("a.txt", b""), ("b.txt", b"one\n\n" + b"x" * 50 + b"\n\ntwo \n")]

    def made(chosen: Component) -> list[Document]:
        return list(documents_of("c", chosen, [(name, io.BytesIO(content)) for name, content in contents]))

    assert [(d.origin, d.component) for d in made(component(section_characters=50))] == [("b.txt#0", "c")]
    whole = made(component())
    assert [(d.origin, d.text) for d in whole] == [("b.txt", contents[1][1].decode())]  # as it is, to the last blank
    assert whole[0].id == document_id(whole[0].text)


def test_a_block_is_its_documents_and_a_table_of_them(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    written = [Document("1" * 16, "one", "a", "m#0"), Document("2" * 16, "second", "b", "m#1")]
    facts = write_block(tmp_path, written)
    assert list(read_documents(tmp_path / "documents.jsonl.zst")) == written
    assert pq.read_table(tmp_path / "documents.parquet").to_pylist() == [
        {"id": "1" * 16, "component": "a", "origin": "m#0", "characters": 3},
        {"id": "2" * 16, "component": "b", "origin": "m#1", "characters": 6},
    ]
    assert facts == DocumentsFacts(2, 9, {"a": Characters(1, 3), "b": Characters(1, 6)})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["documents.jsonl.zst", "documents.parquet"]


def test_stored_documents_have_stable_bytes_and_damage_is_named(tmp_path: Path) -> None:
    documents = [document("ünï\u2028code\n"), document("b", "m#1")]
    first, second = tmp_path / "1.zst", tmp_path / "2.zst"
    write_documents(first, documents)
    write_documents(second, documents)
    assert first.read_bytes() == second.read_bytes()
    assert list(read_documents(first)) == documents
    first.write_bytes(first.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"1\.zst: damaged"):
        list(read_documents(first))


# --- sources -------------------------------------------------------------------------------------


def test_files_on_disk_are_read_sorted_and_json_lines_are_known_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b.txt").write_text("B")
    Path("a.jsonl").write_text('{"text": "A"}')
    chosen = component(files=["*.txt", "*.jsonl", "b.*"])
    made = of_files(chosen)
    assert [(d.origin, d.text) for d in made] == [("a.jsonl:1", "A"), ("b.txt", "B")]
    facts = fetch.file_facts("c", chosen)
    assert facts["b.txt"] == RawFile(1, "df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c")
    with pytest.raises(UserError, match=r"data\.components\.c\.files: no file matches 'z\*'"):
        files_of("c", component(files=["z*"]))
    with pytest.raises(UserError, match=r"b\.txt has sha256 df7e.*\n.*allowed: 0000"):
        fetch.file_facts("c", component(files=["b.txt"], sha256="0" * 64))
    with pytest.raises(UserError, match="is for a single file, but `files` names 2"):
        fetch.file_facts("c", component(files=["b.txt", "a.jsonl"], sha256="0" * 64))


def test_the_files_read_are_those_that_were_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that comes between two parts would shift which files the second part is to read."""
    monkeypatch.chdir(tmp_path)
    Path("b.txt").write_text("B")
    Path("second-name.txt").symlink_to("b.txt")
    chosen = component(files=["*.txt"])
    facts = SourceFacts(fetch.file_facts("c", chosen))
    assert list(facts.files) == ["b.txt"]
    manifest.write(paths.source("c"), facts, subject={}, settings={})
    Path("a.txt").write_text("A")
    assert files_fetched("c") == [Path("b.txt")]
    Path("b.txt").write_text("BB")
    with pytest.raises(UserError, match=r"b\.txt: has 2 bytes, data/sources/c/manifest\.json says 1 bytes"):
        files_fetched("c")
    Path("b.txt").unlink()
    with pytest.raises(UserError, match=r"b\.txt: is missing"):
        files_fetched("c")


def test_an_archive_placed_by_hand_is_kept_if_right_and_refused_if_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    right = "df7e70e5021544f4834bbee64a9e3789febc4be81470df629cad6ddb03320a5c"
    path = paths.source("c") / "p.whl"
    path.parent.mkdir(parents=True)
    path.write_text("B")
    wanted = Archive(package="p", version="1", file="p.whl", sha256=right)
    assert fetch.fetch("c", wanted) == path
    path.write_text("C")
    with pytest.raises(UserError, match=f"the study says: {right}") as caught:
        fetch.fetch("c", wanted)
    assert "6b23c0d5f35d1b11f9b683f0b0a617355deb11277d91ae091d399c655b87940d" in str(caught.value)
    assert path.read_text() == "C"


def test_an_unreachable_index_is_one_message_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple/")
    monkeypatch.setattr(fetch, "FIRST_WAIT", 0.0)
    wanted = Archive(package="p", version="1", file="p.whl", sha256="0" * 64)
    with pytest.raises(UserError, match="could not be fetched") as caught:
        fetch.fetch("c", wanted)
    assert f"put the file with sha256 {'0' * 64}" in str(caught.value)
    assert "data/sources/c/p.whl, or take the component c out of the study" in str(caught.value)
    assert not (tmp_path / "data/sources/c/p.whl").exists()
