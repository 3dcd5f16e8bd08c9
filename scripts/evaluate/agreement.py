"""Minimal pairs: two sentences that differ in one grammatical point (in the manner of BLiMP, Warstadt et al. 2020).

The words are frequent in speeches, drama, encyclopaedias, licences and documentation, so that even a
model of a small corpus can have met them. Every phenomenon is a list of (phenomenon, good, bad) made by
crossing word lists; `items` chooses from all of them by hash, phenomena taking turns.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from scripts.evaluate.passages import draw

VERSION = 1  # of the items: raise it when the same seed would give others

Pair = tuple[str, str]

NOUNS = [  # singular, plural
    ("law", "laws"), ("state", "states"), ("nation", "nations"), ("country", "countries"), ("power", "powers"),
    ("duty", "duties"), ("treaty", "treaties"), ("condition", "conditions"), ("right", "rights"), ("file", "files"),
    ("method", "methods"), ("function", "functions"), ("license", "licenses"), ("citizen", "citizens"),
    ("king", "kings"), ("lord", "lords"), ("friend", "friends"), ("question", "questions"), ("hand", "hands"),
]  # fmt: skip
PEOPLE = [
    ("king", "kings"), ("lord", "lords"), ("friend", "friends"), ("citizen", "citizens"), ("soldier", "soldiers"),
    ("servant", "servants"), ("author", "authors"), ("president", "presidents"), ("enemy", "enemies"),
]  # fmt: skip
MEN = ["king", "man", "father", "son", "brother", "lord", "duke", "prince", "husband"]
WOMEN = ["queen", "woman", "mother", "daughter", "sister", "lady", "duchess", "princess", "wife"]
VERBS = [("is", "are"), ("was", "were"), ("has", "have")]
ENDINGS = {
    "is": ["good", "here", "true", "free"], "are": ["good", "here", "true", "free"],
    "was": ["lost", "great", "made by him"], "were": ["lost", "great", "made by him"],
    "has": ["no name", "great value"], "have": ["no name", "great value"],
}  # fmt: skip
ACTIONS = ["saw", "loved", "gave", "found", "lost", "defended"]
WORD_FORMS = [  # base, third person, past
    ("give", "gives", "gave"), ("take", "takes", "took"), ("make", "makes", "made"), ("come", "comes", "came"),
    ("go", "goes", "went"), ("see", "sees", "saw"), ("know", "knows", "knew"), ("speak", "speaks", "spoke"),
]  # fmt: skip
OBJECTS = [("I", "me"), ("he", "him"), ("we", "us"), ("they", "them"), ("she", "her")]


def _verb_choices(plural: bool) -> list[tuple[str, str, str]]:
    """(right verb, wrong verb, ending) for a singular or plural subject."""
    return [(v[plural], v[not plural], ending) for v in VERBS for ending in ENDINGS[v[plural]]]


def subject_verb() -> list[Pair]:
    """The subject stands beside its verb."""
    return [
        (f"The {noun[plural]} {right} {ending}.", f"The {noun[plural]} {wrong} {ending}.")
        for noun, plural in product(NOUNS, (False, True))
        for right, wrong, ending in _verb_choices(plural)
    ]


def subject_verb_across_phrase() -> list[Pair]:
    """A noun of the other number stands between subject and verb."""
    return [
        (
            f"The {noun[plural]} of the {other[not plural]} {right} {ending}.",
            f"The {noun[plural]} of the {other[not plural]} {wrong} {ending}.",
        )
        for noun, other, plural in product(NOUNS, PEOPLE, (False, True))
        if noun != other
        for right, wrong, ending in _verb_choices(plural)
    ]


def existential() -> list[Pair]:
    """The verb agrees with the noun after it."""
    pairs = []
    for noun, time in product(NOUNS, (0, 1)):
        one, many = VERBS[time]
        pairs += [
            (f"There {many} many {noun[1]} in the country.", f"There {one} many {noun[1]} in the country."),
            (f"There {one} no other {noun[0]} here.", f"There {many} no other {noun[0]} here."),
        ]
    return pairs


def anaphor_number() -> list[Pair]:
    """A reflexive agrees in number."""
    return [
        (f"The {one} {action} himself.", f"The {one} {action} themselves.") for one, action in product(MEN, ACTIONS)
    ] + [
        (f"The {many} {action} themselves.", f"The {many} {action} himself.")
        for (_, many), action in product(PEOPLE, ACTIONS)
    ]


def anaphor_gender() -> list[Pair]:
    """A reflexive agrees in gender."""
    groups = [(MEN, "himself", "herself"), (WOMEN, "herself", "himself")]
    return [
        (f"The {person} {action} {right}.", f"The {person} {action} {wrong}.")
        for people, right, wrong in groups
        for person, action in product(people, ACTIONS)
    ]


def determiner_noun() -> list[Pair]:
    """A demonstrative agrees with its noun."""
    frames = ["I have seen {} {}.", "We must know {} {}.", "They will take {} {}.", "He gave us {} {}."]
    determiners = [("this", "these"), ("that", "those")]
    return [
        (frame.format(words[plural], noun[plural]), frame.format(words[not plural], noun[plural]))
        for frame, words, noun, plural in product(frames, determiners, NOUNS, (False, True))
    ]


def verb_form() -> list[Pair]:
    """A modal takes the base form."""
    return [
        (f"The {person} {modal} {forms[0]} it.", f"The {person} {modal} {wrong} it.")
        for (person, _), modal, forms in product(PEOPLE, ("will", "shall", "must", "may", "can"), WORD_FORMS)
        if forms[0] not in ("come", "go", "speak")  # these take no object
        for wrong in forms[1:]
    ]


def pronoun_case() -> list[Pair]:
    """Subject and object forms of pronouns."""
    return [
        (f"The {person} {action} {low}.", f"The {person} {action} {high}.")
        for (person, _), action, (high, low) in product(PEOPLE, ("saw", "loved", "found", "defended"), OBJECTS)
    ] + [
        (f"{_capital(high)} {action} the {person}.", f"{_capital(low)} {action} the {person}.")
        for (person, _), action, (high, low) in product(PEOPLE, ("saw", "loved", "found", "defended"), OBJECTS)
    ]


def article() -> list[Pair]:
    """ "a" before a consonant's sound, "an" before a vowel's."""
    frames = ["It is {} {}.", "This is {} {} of the law.", "We have {} {}."]
    nouns = {"a": ["law", "nation", "copy", "friend", "right", "king"], "an": ["act", "army", "end", "enemy", "office"]}
    return [
        (frame.format(right, noun), frame.format(wrong, noun))
        for frame, (right, wrong) in product(frames, [("a", "an"), ("an", "a")])
        for noun in nouns[right]
    ]


PHENOMENA: dict[str, Callable[[], list[Pair]]] = {
    "subject_verb": subject_verb,
    "subject_verb_across_phrase": subject_verb_across_phrase,
    "existential": existential,
    "anaphor_number": anaphor_number,
    "anaphor_gender": anaphor_gender,
    "determiner_noun": determiner_noun,
    "verb_form": verb_form,
    "pronoun_case": pronoun_case,
    "article": article,
}


def agreement_items(items: int, seed: int) -> list[dict[str, Any]]:
    """Minimal pairs, phenomena taking turns; the place of the good sentence is drawn too, so that ties tell."""
    ranked = {
        name: sorted(set(pairs()), key=lambda pair, name=name: (draw(seed, name, *pair), pair))  # type: ignore[misc]
        for name, pairs in PHENOMENA.items()
    }
    turns = sorted((turn, name) for name, pairs in ranked.items() for turn in range(len(pairs)))
    return [_item(name, ranked[name][turn], seed) for turn, name in turns[:items]]


def _item(phenomenon: str, pair: Pair, seed: int) -> dict[str, Any]:
    label = draw(seed, "label", phenomenon, *pair) % 2
    choices = [pair[0], pair[1]] if label == 0 else [pair[1], pair[0]]
    return {"phenomenon": phenomenon, "choices": choices, "label": label}


def _capital(word: str) -> str:
    return word[0].upper() + word[1:]
