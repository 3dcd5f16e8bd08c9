"""Every page in a browser: nothing on the console, nothing cut, nothing wider than the screen, light and dark.

Pictures of all pages are kept in the folder `screenshots` of pytest's base folder, or in that of CASTALIA_SCREENSHOTS.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.chromium import Chromium, View
from tests.workflow.conftest import Workflow

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium; tests/browser/run.sh has it")
VIEWS = [View(width, dark=dark) for width in (1400, 390) for dark in (False, True)]
IDS = [f"{view.width}-{'dark' if view.dark else 'light'}" for view in VIEWS]
HIGHEST, ENOUGH = 40_000, 2.9  # of a page in pixels; least contrast of a mark, WCAG's 3 but for rounding
WIDE = 1000  # a screen that shows the first figure whole
FIGURE_FIRST = ("index.html", "memorization.html")
FOREIGN = "report.html"  # Snakemake's own page: only that it opens
PROBE = (Path(__file__).parents[1] / "browser/probe.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    with Chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(os.environ.get("CASTALIA_SCREENSHOTS", tmp_path_factory.getbasetemp() / "screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def faults(chromium: Chromium, page: Path, view: View, screenshots: Path) -> list[str]:
    """What is wrong with a page; a picture of it is kept."""
    name = f"{page.stem}-{IDS[VIEWS.index(view)]}.png"
    opened = chromium.open(page, view, PROBE.replace("ENOUGH", str(ENOUGH)), screenshots / name)
    if page.name == FOREIGN:
        return [said for said in opened.said if "tailwindcss.com should not be used" not in said]
    width, height = opened.probed["width"], opened.probed["height"]
    wrong = [*opened.said, *opened.probed["faults"]]
    wrong += [f"{width} px wide"] if width != view.width else []
    if page.name in FIGURE_FIRST:
        top, bottom = opened.probed["first"]
        whole = bottom < view.height or view.width < WIDE
        wrong += [] if top < view.height / 2 and whole else [f"its first figure stands at {top} to {bottom} px"]
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
def test_every_page_of_the_smoke_study(pages: list[Path], chromium: Chromium, view: View, screenshots: Path) -> None:
    assert len(pages) == 9
    assert {page.name: wrong for page in pages if (wrong := faults(chromium, page, view, screenshots))} == {}


def clicked(chromium: Chromium, page: Path, script: str) -> Any:
    """What a script of clicks gives on a page, once its figures are drawn."""
    helpers = """
      const pause = () => new Promise(done => setTimeout(done, 300));
      const count = (name, what) => document.querySelectorAll(`[data-figure="${name}"] ${what}`).length;
      const click = what => {
        const box = what.getBoundingClientRect(), at = {bubbles: true, clientX: box.x + 2, clientY: box.y + 2};
        for (const kind of ["pointerdown", "mousedown", "pointerup", "mouseup", "click"])
          what.dispatchEvent(new MouseEvent(kind, at));
      };"""
    opened = chromium.open(page, VIEWS[0], f"(async () => {{ {helpers} {script} }})()")
    assert opened.said == []
    return opened.probed


def test_a_legend_filters_and_x_switches(pages: list[Path], chromium: Chromium) -> None:
    found = clicked(chromium, next(page for page in pages if page.name == "index.html"), """
      const lines = () => count("loss", ".mark-line path");
      const titles = () => [...document.querySelectorAll('[data-figure="loss"] .role-axis-title text')];
      const labels = () => titles().map(each => each.textContent);
      const before = [lines(), labels()];
      click(document.querySelector('[data-figure="loss"] .role-legend-symbol path'));
      await pause();
      const filtered = lines();
      const radios = document.querySelectorAll('[data-figure="loss"] input[type=radio]');
      radios[2].click();
      await pause();
      return [before, filtered, labels(), radios.length];""")  # fmt: skip
    (lines, labels), filtered, switched, radios = found
    assert 0 < filtered < lines  # of one size only
    assert "step (log)" in labels and "FLOPs (log)" in switched and radios == 3


def test_tables_are_sorted_and_kept(pages: list[Path], chromium: Chromium) -> None:
    sizes, sorted_, down, href = clicked(chromium, next(page for page in pages if page.name == "index.html"), """
      const table = document.querySelector('table[data-name="runs"]');
      const column = () => [...table.tBodies[0].rows].map(row => Number(row.cells[5].textContent.replaceAll(",", "")));
      const before = column(), head = table.tHead.rows[0].cells[5];
      head.click(); const up = column();
      head.click(); const down = column();
      const link = table.closest(".scroll").nextElementSibling;
      link.addEventListener("click", event => event.preventDefault());
      link.click();
      return [before, up, down, decodeURIComponent(link.href)];""")  # fmt: skip
    assert sorted_ == sorted(sizes) and down == sorted(sizes, reverse=True)
    assert href.startswith("data:text/csv") and "run,size,corpus" in href and '"' in href  # thousands have commas


def test_any_two_checkpoints_are_compared(pages: list[Path], chromium: Chromium) -> None:
    runs, loss, other = clicked(chromium, next(page for page in pages if page.name == "compare.html"), """
      const cells = () => [...document.querySelector("#differences tbody tr").cells].map(cell => cell.textContent);
      const run = document.getElementById("run-B"), step = document.getElementById("step-B"), first = cells();
      run.value = document.getElementById("run-A").value; run.dispatchEvent(new Event("change"));
      step.value = step.options[0].value; step.dispatchEvent(new Event("change"));
      await pause();
      return [run.options.length, first, cells()];""")  # fmt: skip
    assert runs == 3 and loss[:2] == other[:2] == ["held-out loss", "all"]
    assert loss[2] == other[2] and float(other[3]) > float(other[2])  # the same run before training
    assert float(other[4]) == pytest.approx(float(other[3]) - float(other[2]), abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(
    "CASTALIA_FINISHED" not in os.environ, reason="CASTALIA_FINISHED names no folder of a finished study"
)
@pytest.mark.parametrize("view", VIEWS, ids=IDS)
def test_every_page_of_a_finished_study(chromium: Chromium, view: View, screenshots: Path) -> None:
    """Of any study, e.g. the default one."""
    pages = sorted(Path(os.environ["CASTALIA_FINISHED"], "results").glob("*.html"))
    assert pages
    assert {page.name: wrong for page in pages if (wrong := faults(chromium, page, view, screenshots))} == {}
