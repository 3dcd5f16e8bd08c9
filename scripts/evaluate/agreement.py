"""Minimal pairs: two sentences that differ in one grammatical point (in the manner of BLiMP, Warstadt et al. 2020).

The words are frequent in speeches, drama, encyclopaedias, licences and documentation, so that even a
model of a small corpus can have met them.

Items come as counterbalanced twos: what is wrong in one item is right in the other ("The law is.." against
"The law are..", "The laws are.." against "The laws is.."). A model that looks at nothing but how likely, frequent
or long the two forms are gets exactly one of the two right, so a score of one half means that nothing was learned;
single pairs favour one form (version 1 did: untrained models reached 48 to 62 %). The good sentence stands
first in one item and second in the other.

Every phenomenon is a list of such twos made by crossing word lists; `agreement_items` chooses from all of them by
hash, phenomena taking turns.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

from scripts.evaluate.passages import draw

VERSION = 2  # of the items: raise it when the same seed would give others

Pair = tuple[str, str]  # good, bad
Two = tuple[Pair, Pair]

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
MEN = [
    ("king", "kings"), ("man", "men"), ("father", "fathers"), ("son", "sons"), ("brother", "brothers"),
    ("lord", "lords"), ("duke", "dukes"), ("prince", "princes"), ("husband", "husbands"),
]  # fmt: skip
WOMEN = ["queen", "woman", "mother", "daughter", "sister", "lady", "duchess", "princess", "wife"]  # in the men's order
VERBS = [  # singular, plural, what may follow both
    ("is", "are", ["good", "here", "true", "free"]),
    ("was", "were", ["lost", "great", "made by him"]),
    ("has", "have", ["no name", "great value"]),
]
ACTIONS = ["saw", "loved", "gave", "found", "lost", "defended"]
WORD_FORMS = [  # base, third person, past
    ("give", "gives", "gave"), ("take", "takes", "took"), ("make", "makes", "made"),
    ("see", "sees", "saw"), ("know", "knows", "knew"), ("hold", "holds", "held"),
]  # fmt: skip
MODALS = [("will", "now"), ("shall", "here"), ("must", "again"), ("may", "then"), ("can", "there")]  # with an ending
OBJECTS = [("I", "me"), ("he", "him"), ("we", "us"), ("they", "them"), ("she", "her")]
BEFORE_CONSONANT = ["law", "nation", "copy", "friend", "right", "king"]
BEFORE_VOWEL = ["act", "army", "end", "enemy", "office", "oath"]


def two(frames: tuple[str, str], forms: tuple[str, str]) -> Two:
    """The first form is right in the first frame and wrong in the second; `{}` in a frame is its place."""
    (first, second), (one, other) = frames, forms
    return (first.format(one), first.format(other)), (second.format(other), second.format(one))


def subject_verb() -> list[Two]:
    """The subject stands beside its verb."""
    return [
        two((f"The {singular} {{}} {ending}.", f"The {plural} {{}} {ending}."), (one, many))
        for (singular, plural), (one, many, endings) in product(NOUNS, VERBS)
        for ending in endings
    ]


def subject_verb_across_phrase() -> list[Two]:
    """A noun of the other number stands between subject and verb."""
    return [
        two(
            (f"The {noun[0]} of the {other[1]} {{}} {end}.", f"The {noun[1]} of the {other[0]} {{}} {end}."),
            (one, many),
        )
        for noun, other, (one, many, endings) in product(NOUNS, PEOPLE, VERBS)
        if noun != other
        for end in endings
    ]


def existential() -> list[Two]:
    """The verb agrees with the noun after it."""
    places = ["here", "in the country", "of this kind", "in the book"]
    return [
        two((f"There {{}} one {singular} {place}.", f"There {{}} many {plural} {place}."), (one, many))
        for (singular, plural), (one, many, _), place in product(NOUNS, VERBS[:2], places)
    ]


def anaphor_number() -> list[Two]:
    """A reflexive agrees in number."""
    return [
        two((f"The {one} {action} {{}}.", f"The {many} {action} {{}}."), ("himself", "themselves"))
        for (one, many), action in product(MEN, ACTIONS)
    ]


def anaphor_gender() -> list[Two]:
    """A reflexive agrees in gender."""
    return [
        two((f"The {man} {action} {{}}.", f"The {woman} {action} {{}}."), ("himself", "herself"))
        for ((man, _), woman), action in product(zip(MEN, WOMEN, strict=True), ACTIONS)
    ]


def determiner_noun() -> list[Two]:
    """A demonstrative agrees with its noun."""
    frames = ["I have seen {{}} {}.", "We must know {{}} {}.", "They will take {{}} {}.", "He gave us {{}} {}."]
    return [
        two((frame.format(singular), frame.format(plural)), determiners)
        for frame, determiners, (singular, plural) in product(frames, [("this", "these"), ("that", "those")], NOUNS)
    ]


def verb_form() -> list[Two]:
    """A modal takes the base form, a subject alone does not."""
    return [
        two((f"The {person} {modal} {{}} it {end}.", f"The {person} {{}} it {end}."), (base, other))
        for (person, _), (modal, end), (base, *others) in product(PEOPLE, MODALS, WORD_FORMS)
        for other in others
    ]


def pronoun_case() -> list[Two]:
    """Subject and object forms of pronouns."""
    return [
        two((f"{word} {{}} {action} the {person}.", f"{word} the {person} {action} {{}}."), forms)
        for word, (person, _), action, forms in product(
            ("Then", "Once", "There"), PEOPLE, ("saw", "loved", "found", "defended"), OBJECTS
        )
    ]


def article() -> list[Two]:
    """ "a" before a consonant's sound, "an" before a vowel's."""
    frames = [
        "It is {{}} {}.", "This is {{}} {} of the law.", "We have {{}} {}.", "There was {{}} {} here.",
        "They gave us {{}} {}.", "I know of {{}} {}.",
    ]  # fmt: skip
    return [
        two((frame.format(one), frame.format(other)), ("a", "an"))
        for frame, (one, other) in product(frames, zip(BEFORE_CONSONANT, BEFORE_VOWEL, strict=True))
    ]


PHENOMENA: dict[str, Callable[[], list[Two]]] = {
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
    """Counterbalanced twos of minimal pairs, phenomena taking turns: as many items as asked, one fewer if that is odd
    (but two if one is asked)."""
    ranked = {
        name: sorted(set(twos()), key=lambda pairs, name=name: (draw(seed, name, *pairs), pairs))  # type: ignore[misc]
        for name, twos in PHENOMENA.items()
    }
    turns = sorted((turn, name) for name, twos in ranked.items() for turn in range(len(twos)))
    return [item for turn, name in turns[: max(1, items // 2)] for item in _items(name, ranked[name][turn], seed)]


def _items(phenomenon: str, pairs: Two, seed: int) -> list[dict[str, Any]]:
    """Both items of a two; `two` names it."""
    number = draw(seed, "label", phenomenon, *pairs)
    labels = (number % 2, 1 - number % 2)  # so that always the same answer is right in one of the two
    return [
        {
            "phenomenon": phenomenon,
            "two": f"{number:016x}",
            "choices": [good, bad] if label == 0 else [bad, good],
            "label": label,
        }
        for (good, bad), label in zip(pairs, labels, strict=True)
    ]
