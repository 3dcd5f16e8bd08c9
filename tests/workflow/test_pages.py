"""Every page in a browser: nothing on the console, nothing cut, nothing wider than the screen, light and dark."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser.chromium import Chromium, View
from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium; tests/browser/run.sh has it")
VIEWS = [View(width, dark=dark) for width in (1400, 390) for dark in (False, True)]
IDS = [f"{view.width}-{'dark' if view.dark else 'light'}" for view in VIEWS]
HIGHEST, ENOUGH = 40_000, 2.9  # of a page in pixels; least contrast of a mark, WCAG's 3 but for rounding
FOREIGN = "report.html"  # Snakemake's own page: only that it opens
PROBE = (Path(__file__).parents[1] / "browser/probe.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


def faults(chromium: Chromium, page: Path, view: View) -> list[str]:
    """What is wrong with a page."""
    opened = chromium.open(page, view, PROBE.replace("ENOUGH", str(ENOUGH)))
    if page.name == FOREIGN:
        return [said for said in opened.said if "tailwindcss.com should not be used" not in said]
    width, height = opened.probed["width"], opened.probed["height"]
    wrong = [*opened.said, *opened.probed["faults"]]
    wrong += [f"{width} px wide"] if width != view.width else []
    return wrong + ([f"{height} px high"] if height > HIGHEST else [])


def every_page(workflow: Workflow, folder: Path) -> list[Path]:
    """The pages of a finished study's folder, with those that are made by hand."""
    for package, command in (("plan", "show"), ("operate", "status")):
        workflow.command_line(f"scripts.{package}", command, "--directory", str(folder))
    return sorted((folder / "results").glob("*.html"))


@pytest.fixture(scope="module")
def pages(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Those of the smoke study, and those made by hand."""
    workflow = Workflow(shutil.copytree(finished.folder, tmp_path_factory.mktemp("pages") / "copy"))
    rows = ["--corpus", "standard", "--seed", "1234", "--steps", "0:1", "--html", "results/rows.html"]
    assert workflow.command_line("scripts.data", "view", *rows).returncode == 0
    return every_page(workflow, workflow.folder)


@pytest.mark.parametrize("view", VIEWS, ids=IDS)
def test_every_page_of_the_smoke_study(pages: list[Path], chromium: Chromium, view: View) -> None:
    assert len(pages) == 8
    assert {page.name: wrong for page in pages if (wrong := faults(chromium, page, view))} == {}


@pytest.mark.slow
@pytest.mark.skipif(
    "CASTALIA_FINISHED" not in os.environ, reason="CASTALIA_FINISHED names no folder of a finished study"
)
@pytest.mark.parametrize("view", VIEWS, ids=IDS)
def test_every_page_of_a_finished_study(chromium: Chromium, view: View) -> None:
    """Of any study, e.g. the default one."""
    pages = sorted(Path(os.environ["CASTALIA_FINISHED"], "results").glob("*.html"))
    assert pages
    assert {page.name: wrong for page in pages if (wrong := faults(chromium, page, view))} == {}
