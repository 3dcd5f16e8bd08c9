"""The key of the cache of requests."""

from __future__ import annotations

from scripts.evaluate.requests import key_of


def test_a_helper_beside_a_users_task_is_in_the_key() -> None:
    """A task's configuration holds the source of the function it names, but of nothing that this function calls."""
    plain = key_of({}, "tokenizer", "0.4", 1234)
    assert plain == key_of({}, "tokenizer", "0.4", 1234, {})  # own and lm-eval's tasks keep their files
    one, two = (key_of({}, "tokenizer", "0.4", 1234, {"utils.py": sha}) for sha in ("a" * 64, "b" * 64))
    assert len({plain, one, two}) == 3
