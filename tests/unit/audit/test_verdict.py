"""What checks come to."""

import pytest

from scripts.audit.verdict import Check, judged, plain


def test_one_fault_fails_the_whole() -> None:
    sound = judged("steps", "every step exists", [], "24 steps of 3 runs")
    broken = judged("hashes", "every file has its hash", ["models/a/step1/model.safetensors"], "all")
    assert sound == Check("steps", "every step exists", "pass", ("24 steps of 3 runs",))
    assert broken.status == "fail" and broken.evidence == ("models/a/step1/model.safetensors",)
    assert plain([sound])["verdict"] == "pass"
    assert plain([sound, broken])["verdict"] == "fail"


def test_two_checks_of_one_name_are_refused() -> None:
    check = judged("steps", "every step exists", [], "all")
    with pytest.raises(ValueError, match="steps"):
        plain([check, check])
