"""The plan as it is printed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.common.units import bytes_short, device_time, duration, scientific, short
from scripts.plan.costs import Plan, RunPlan
from scripts.plan.measured import HOURS, Comparison, Row

WIDTH = 128  # of output that no terminal limits
COLUMNS = ("run", "parameters", "tokens", "FLOPs", "device time", "speed", "devices", "wall time", "saved", "weights",
           "optimizer", "models")  # fmt: skip
AT_CHOICE = ("export", "replay", "recency")  # stages that a study may leave out
MEASURED = ("run", "what", "planned", "measured", "measured / planned")


def show(plan: Plan, comparison: Comparison, page: Path) -> None:
    """Print everything."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    console.print(f"[bold]{plan.study}[/bold] on {plan.device} ({plan.what})")
    console.print(f"Speed: {plan.speed_source}\n")
    console.print(_table(COLUMNS, [*map(run_cells, plan.runs), total_cells(plan)], texts=(0, 5)))
    for what, value in totals(plan):
        console.print(f"{what + ':':<14}{value}")
    console.print("\nNot counted: " + "; ".join(plan.not_counted))
    for note in plan.notes:
        console.print(note)
    console.print()
    if comparison.rows:
        console.print(f"[bold]Planned and measured[/bold], {comparison.finished} of {len(plan.runs)} runs finished")
        console.print(_table(MEASURED, [measured_cells(row) for row in comparison.rows], texts=(0, 1)))
        rates = ", ".join(f"{size}: {rate:g}" for size, rate in comparison.rates.items())
        console.print(f"For profiles/devices.yaml: tokens_per_second: {{{rates}}}\n")
    else:
        console.print(f"Not compared with what was measured: {comparison.why}.")
    console.print(f"The figure: {page}")


def run_cells(plan: RunPlan) -> list[str]:
    """Cells of one run, as `COLUMNS` names them."""
    return [
        plan.run, short(plan.parameters), short(plan.tokens), scientific(plan.flops.training),
        device_time(plan.hours.total), plan.basis, str(plan.devices), duration(plan.wall_hours),
        f"{plan.checkpoints} / {plan.optimizer_states}",
        *(bytes_short(value) for value in (plan.bytes.weights, plan.bytes.optimizer, plan.bytes.models)),
    ]  # fmt: skip


def total_cells(plan: Plan) -> list[str]:
    """The last row."""
    tokens, flops = sum(run.tokens for run in plan.runs), sum(run.flops.training for run in plan.runs)
    return [
        f"all {len(plan.runs)}", "", short(tokens), scientific(flops), device_time(plan.hours.total), "", "", "", "",
        *(bytes_short(value) for value in (plan.bytes.weights, plan.bytes.optimizer, plan.bytes.models)),
    ]  # fmt: skip


def totals(plan: Plan) -> list[tuple[str, str]]:
    """What is told of the whole study, in words."""
    hours, kept = plan.hours, plan.bytes
    stages = {name: h for name, h in hours.by_stage.items() if h or name not in AT_CHOICE}
    by_stage = ", ".join(f"{name} {'not counted' if h is None else device_time(h)}" for name, h in stages.items())
    longest = max(plan.runs, key=lambda run: run.wall_hours)
    all_optimizer = sum(run.optimizer_bytes_at_all_steps for run in plan.runs)
    exported = f", GGUF files {bytes_short(kept.exports)}" if kept.exports else ""
    shown = [
        ("Device time", f"{device_time(hours.total)}: {by_stage}"),
        ("Wall time", f"the whole study from {duration(hours.total)} with one device, {duration(hours.total / 2)} with "
                      f"two at work all the time, and so on; training alone {duration(longest.wall_hours)} if all "
                      f"runs go side by side ({longest.run}), "
                      f"{duration(sum(run.wall_hours for run in plan.runs))} one after the other"),
        ("Retention", "saved: steps with weights / with optimizer state too. "
                      f"Weights {bytes_short(kept.weights)}, optimizer state {bytes_short(kept.optimizer)} "
                      f"({bytes_short(all_optimizer)} if kept at every step), models {bytes_short(kept.models)}"
                      f"{exported}; while a run trains, {bytes_short(kept.resume)} to resume from, over all runs"),
        ("Disk", f"{bytes_short(plan.kept_bytes)} at the end, {bytes_short(plan.peak_bytes)} at most; of it data at "
                 f"least {bytes_short(plan.data_bytes)}"),
        ("Jobs", f"{sum(plan.jobs.values())}: " + ", ".join(f"{rule} {count}" for rule, count in plan.jobs.items())),
    ]  # fmt: skip
    if plan.cost is not None:
        shown.append(("Cost", f"{money(plan.cost)} at {plan.price:g} a device-hour"))
    return shown


def money(amount: float) -> str:
    """A price with as many digits as matter."""
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.2f}"


def measured_cells(row: Row) -> list[str]:
    """Cells of one comparison, as `MEASURED` names them."""
    told = device_time if row.unit == HOURS else bytes_short
    return [row.run, row.what, told(row.planned), told(row.measured), f"{row.ratio:.3g}"]


def _table(names: tuple[str, ...], rows: list[list[str]], texts: tuple[int, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, name in enumerate(names):
        table.add_column(name, justify="left" if place in texts else "right", no_wrap=place == 0, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
