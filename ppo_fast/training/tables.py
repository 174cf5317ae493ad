"""Tables of training results: Markdown that is readable as it stands."""

import math
from collections.abc import Sequence

import numpy as np


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A Markdown table; `align` has an "l" or "r" per column."""
    widths = [max(len(row[k]) for row in [header, *rows]) for k in range(len(header))]
    rule = [
        "-" * width if side == "l" else "-" * (width - 1) + ":"
        for side, width in zip(align, widths, strict=True)
    ]
    lines = []
    for row in [header, rule, *rows]:
        cells = [
            cell.ljust(width) if side == "l" else cell.rjust(width)
            for cell, side, width in zip(row, align, widths, strict=True)
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def mean_cell(values: Sequence[float], digits: int, *, spread: bool = False) -> str:
    """The mean over runs, with the standard deviation if asked for; "-" where there is none."""
    mean = float(np.mean(values)) if values else math.nan
    if math.isnan(mean):
        return "-"
    cell = f"{mean:,.{digits}f}"
    if spread and len(values) > 1:
        cell += f" +- {np.std(values, ddof=1):,.{digits}f}"
    return cell
