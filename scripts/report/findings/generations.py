"""What models write, in words: the largest one's first continuation at its first and last step, and how it repeats."""

from __future__ import annotations

from scripts.report.findings.finding import Finding, percent
from scripts.report.results import Results


def all_findings(results: Results) -> list[Finding]:
    """A fact, where the table is there."""
    table = results.science.get("generations")
    if table is None or table.empty:
        return []
    run = str(table.iloc[table["non_embedding"].to_numpy().argmax()]["run"])
    rows = table[table["run"] == run]
    ends = [rows[rows["step"] == step] for step in (rows["step"].min(), rows["step"].max())]
    first, last = (end.iloc[0] for end in ends)
    distinct = [float(end["distinct"].mean()) for end in ends]
    text = (
        f"{run} goes on from “{first['prompt']}” with “{_short(first['continuation'])}” at step {first['step']}, "
        f"and with “{_short(last['continuation'])}” at step {last['step']}. Of the tokens of a continuation "
        f"{percent(distinct[0])} and {percent(distinct[1])} are different ones, in the mean over prompts."
    )
    numbers = {"run": run, "distinct_first": distinct[0], "distinct_last": distinct[1]}
    return [Finding(id="generated_text", text=text, numbers=numbers, table="generations")]


def _short(text: str) -> str:
    """A text on one line, its beginning."""
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79] + "…"
