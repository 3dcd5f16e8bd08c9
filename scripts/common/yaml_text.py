"""YAML text as plain values: one reading for every file, bounded, and every mistake told with its line and column.

Keys are text as they stand, as in JSON, so that a component may be called `no`. Numbers may be written 1e-5, which
YAML 1.1 takes for text. What YAML 1.1 and 1.2 read as different values (0123, yes, 1:30) is refused.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.error import Mark, MarkedYAMLError
from yaml.reader import ReaderError

from scripts.common.errors import UserError

DEPTH = 64  # values inside each other
VALUES = 100_000  # in one text, those behind an alias counted each time it stands there
LINE = 100  # characters of a suggested value
TAG = "tag:yaml.org,2002:"
FORMS = {  # how plain text looks that is something else
    "null": re.compile(r"~|null|Null|NULL|"),
    "bool": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "int": re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)"),
    "doubtful": re.compile(
        r"[-+]?0[0-9_]+|0o[0-7]+|[-+]?0b[01_]+|[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?"
        r"|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF"
    ),
    "float": re.compile(
        r"[-+]?(?:\.[0-9][0-9_]*|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    ),
    "merge": re.compile(r"<<"),
}
MEANT = {"yes": "true", "on": "true", "no": "false", "off": "false"}
MISTAKES = (  # what the parser says, what that means and how it is mended
    (r"found character '\\t'", "a tab; indent with spaces"),
    (r"found character '(.)' that cannot start", r"a text that begins with \1; put it in quotes"),
    (
        r"mapping values are not allowed",
        "a colon that can't stand here; the key before it lacks its colon, the indent is wrong, or a text that holds "
        "a colon lacks its quotes",
    ),
    (r"could not find expected ':'", "a key without a colon; write key: value"),
    (
        r"expected ',' or '(.)', but got ':'",
        r"a key that no comma precedes, or what is above it lacks its closing \1",
    ),
    (r"expected ',' or '(.)'", r"behind this a comma or the closing \1 is missing"),
    (
        r"expected <block end>|expected the node content",
        "this fits nothing above; bring it under its neighbours, or add the missing colon or closing bracket",
    ),
    (r"unknown escape character", r"a backslash in double quotes; write \\ or single quotes"),
    (
        r"found undefined alias|expected alphabetic or numeric",
        "an alias of nothing; put a text that begins with * or & in quotes",
    ),
    (r"second occurrence", "an anchor (&) of this name stands there already; rename one"),
    (r"sequence entries are not allowed", "a list's dash behind a key; give it a line of its own, or write [..]"),
    (r"could not determine a constructor for the tag '([^']*)'", r"the tag \1; only plain values are read"),
    (r"found another document|expected '<document start>'", "a second document; one is read"),
)


class _Loader(yaml.SafeLoader):
    """The safe loader with the forms above, bounded, and no key twice."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.values = 0
        self.behind: dict[int, int] = {}  # values in a finished node

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        if kind is yaml.ScalarNode and implicit[0]:
            return TAG + next((name for name, form in FORMS.items() if form.fullmatch(value)), "str")
        return str(super().resolve(kind, value, (False, True)))

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event, before = self.peek_event(), self.values
        self.depth, self.values = self.depth + 1, self.values + 1
        if self.depth > DEPTH:
            raise _mistake(event, f"values more than {DEPTH} deep inside each other")
        node = super().compose_node(parent, index)
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self.behind:
                raise _mistake(event, f"the alias *{event.anchor} stands inside what it names")
            self.values += self.behind[id(node)]
        else:
            self.behind[id(node)] = self.values - before
        if self.values > VALUES:
            raise _mistake(event, f"more than {VALUES:,} values, those behind aliases counted each time")
        self.depth -= 1
        return node

    def compose_mapping_node(self, anchor: dict[Any, yaml.Node]) -> yaml.MappingNode:
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _mistake(key, "a list or mapping as a key; keys are text")
            if key.tag != f"{TAG}merge" and key.value in seen:
                raise _mistake(key, f"the key {key.value!r} stands there twice; rename one")
            seen.add(key.value)
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}

    def number(self, node: yaml.ScalarNode) -> int | float:
        """The number of an int or float node; raises ConstructorError for one that Python can't read."""
        text = self.construct_scalar(node).replace("_", "")
        try:
            if node.tag == f"{TAG}int":
                return int(text, 16 if "x" in text else 10)
            return float(re.sub(r"\.(?=[inIN])", "", text))
        except ValueError:  # also more digits than Python converts
            raise _mistake(node, f"{text[:40]!r} can't be read as a number") from None

    def truth(self, node: yaml.ScalarNode) -> bool:
        """The value of a bool node; raises ConstructorError for another word under the tag !!bool."""
        if (word := str(node.value).lower()) not in ("true", "false"):
            raise _mistake(node, f"{node.value!r} is neither true nor false")
        return word == "true"

    def doubtful(self, node: yaml.ScalarNode) -> None:
        """Refuse what readers of YAML take for different values."""
        fix = MEANT.get(node.value.lower(), "a plain decimal number")
        raise _mistake(
            node, f'{node.value}, which YAML 1.1 and 1.2 read differently; write {fix}, or "{node.value}" for text'
        )


class _TagLoader(_Loader):
    """Leaves values under tags of others, such as lm-eval's !function, unread."""

    def unread(self, tag: str, node: yaml.Node) -> None:
        """Null, whatever the tag and its value are."""


_Loader.yaml_constructors = {
    **{
        tag: yaml.SafeLoader.yaml_constructors[tag]
        for tag in (*(TAG + name for name in ("null", "str", "seq", "map")), None)
    },
    **dict.fromkeys((f"{TAG}int", f"{TAG}float"), _Loader.number),
    f"{TAG}bool": _Loader.truth,
    f"{TAG}doubtful": _Loader.doubtful,
}
_TagLoader.add_multi_constructor("!", _TagLoader.unread)


def _mistake(place: Any, problem: str) -> MarkedYAMLError:
    """An error at an event's or node's start."""
    return ConstructorError(None, None, problem, place.start_mark)


def parse_yaml(text: str, source: object, *, tags: bool = False) -> dict[str, Any]:
    """The mapping that YAML text holds; raises UserError with `source`, line and column of what is wrong.

    `tags`: values under tags of others are let through, as null.
    """
    try:
        loader = (_TagLoader if tags else _Loader)(text)
        value = loader.get_single_data()
    except MarkedYAMLError as error:
        raise UserError(_told(error, text, source)) from None
    except ReaderError as error:
        words = f"the character U+{error.character:04X} can't stand in YAML"
        raise UserError(f"{source}: {place(text[: error.position])}: {words}") from None
    if value is None:
        raise UserError(f"{source}: holds nothing; wanted: lines of key: value")
    if not isinstance(value, dict):
        raise UserError(
            f"{source}: line 1, column 1: {type(value).__name__} and no mapping; wanted: lines of key: value"
        )
    return value


def line(key: str, value: Any) -> str:
    """The line of YAML that gives a key this value; the key alone if it would be long, as what is below may stay."""
    written = flow(value)
    return f"{key}: {written}" if len(written) <= LINE and "\n" not in written else f"{key}:"


def flow(value: Any) -> str:
    """A value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=float("inf"))
    return str(text).removesuffix("\n").removesuffix("\n...")


def place(before: str) -> str:
    """Line and column of what comes after this text."""
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def _told(error: MarkedYAMLError, text: str, source: object) -> str:
    """One sentence: where, what, and how it is mended."""
    problem, mark = str(error.problem or error.context), error.problem_mark or error.context_mark
    words = next((found.expand(mended) for said, mended in MISTAKES if (found := re.search(said, problem))), problem)
    if str(error.context).startswith("while scanning a quoted") and "stream" in problem:
        words, mark = "quotes that are not closed", error.context_mark
    elif str(error.context).startswith("while scanning a simple key"):
        mark = error.context_mark
    before = text[: mark.index] if isinstance(mark, Mark) else ""
    return f"{source}: {place(before.rstrip() if words.startswith('behind') else before)}: {words}"
