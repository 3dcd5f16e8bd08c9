"""A refused study file, told key by key: value, what is allowed, the corrected line."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ValidationError

from scripts.common.errors import explain, near
from scripts.common.yaml_text import line
from scripts.study.config.study_file import StudyFile

WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list: [..]",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text matching {pattern}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "at least {min_length} entries",
    "too_long": "at most {max_length} entries",
}


def explain_all(error: ValidationError, prefix: str = "") -> str:
    """Every mistake of a validation in one text."""
    return "\n".join(_explain_one(mistake, prefix) for mistake in error.errors())


def _explain_one(mistake: Any, prefix: str) -> str:
    places = [str(place) for place in mistake["loc"] if place != "[key]"]
    key = ".".join(([prefix] if prefix else []) + places) or "study file"
    kind, value = mistake["type"], mistake["input"]
    last = places[-1] if places else ""
    if kind == "missing":
        return f"{key}: this key is missing; every setting must stand in the study file"
    if kind == "extra_forbidden":
        known = _known_keys(places[:-1], prefix)
        guess = near(last, known)
        return explain(key, last, ", ".join(known) or "no key here", line(guess, value) if guess else None)
    if kind == "value_error":
        return f"{key}: {mistake['msg'].removeprefix('Value error, ')}"
    allowed = WANTED.get(kind, mistake["msg"]).format(**mistake.get("ctx", {}))
    fix = _corrected(kind, value, mistake.get("ctx", {}))
    named = next((place for place in reversed(places) if not place.isdigit()), "")
    if fix is not None:
        fix = line(named, [fix] if last.isdigit() else fix)
    return explain(key, value, allowed, fix)


def _corrected(kind: str, value: Any, context: dict[str, Any]) -> Any:
    """A value that would pass, where one can be told from the mistake."""
    if kind == "greater_than":
        return 1 if isinstance(value, int) else None
    if kind in ("greater_than_equal", "less_than_equal"):
        return context.get("ge", context.get("le"))
    if kind == "int_type" and isinstance(value, float) and value.is_integer():
        return int(value)  # 143e3
    if kind == "string_type" and isinstance(value, bool | int):
        return str(value)  # in quotes
    if kind == "literal_error":
        options = context["expected"].replace(" or ", ", ").split(", ")
        return (near(value, [o.strip("'") for o in options]) or options[0].strip("'")) if options else None
    if kind in ("int_type", "float_type") and isinstance(value, str):
        try:
            number = float(value)
        except ValueError:
            return None
        if kind == "int_type":
            return int(number) if number.is_integer() else None
        return number
    if kind == "list_type" and not isinstance(value, dict):
        return [value]
    return None


def _known_keys(places: list[str], prefix: str) -> list[str]:
    """Keys the model at this place has, found by walking the models along the path."""
    model: Any = StudyFile
    for place in ([prefix.split(": ")[-1]] if prefix else []) + places:
        model = _step(model, place)
    return sorted(model.model_fields) if model else []


def _step(model: Any, place: str) -> Any:
    """The model one key further down; names and indices inside dict[...] and list[...] stay at it."""
    field = model.model_fields.get(place) if model else None
    return _model_in(field.annotation) if field else model


def _model_in(annotation: Any) -> Any:
    """The BaseModel inside an annotation such as dict[str, Model], or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    arguments = getattr(annotation, "__args__", ())
    models = [m for m in map(_model_in, arguments) if m is not None]
    return models[0] if models else None
