"""Numbers told in few characters, and lists in few words."""

from __future__ import annotations

from collections.abc import Iterable


def short(number: float) -> str:
    """4.4 M: three digits and a unit."""
    for unit, name in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "k")):
        if number >= unit:
            value = number / unit
            return f"{value:.3g} {name}" if value < 999.5 else f"{value:,.0f} {name}"
    return f"{number:.3g}"


def scientific(number: float) -> str:
    """2.13e22."""
    mantissa, exponent = f"{number:.2e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def bytes_short(number: float) -> str:
    """12.3 GB, in powers of ten as disks are sold."""
    for unit, name in ((10**15, "PB"), (10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if number >= unit:
            return f"{number / unit:,.1f} {name}"
    return f"{number:.0f} B"


def device_time(hours: float) -> str:
    """72,300 h, 4.1 h, 12 min, 3 s: work of a device, in hours however long."""
    return f"{hours:,.0f} h" if hours >= 48 else duration(hours)


def duration(hours: float) -> str:
    """11.8 d, 4.1 h, 12 min, 3 s: time that passes."""
    if hours >= 48:
        return f"{hours / 24:,.1f} d"
    if hours >= 2:
        return f"{hours:.1f} h"
    minutes = hours * 60
    return f"{minutes:.1f} min" if minutes >= 2 else f"{minutes * 60:.1f} s"


def brief(items: Iterable[str], most: int = 3) -> list[str]:
    """The first few of several items, each once, and how many more there are."""
    once = list(dict.fromkeys(items))
    return once if len(once) <= most + 1 else [*once[:most], f"and {len(once) - most} more"]
