"""Progress bars in a terminal, and lines of text that do not break them."""

from __future__ import annotations

import sys
from typing import IO, Any, TypeAlias

from tqdm import tqdm
from tqdm.utils import disp_len

ProgressBar: TypeAlias = "tqdm[Any]"


def sample_progress_bar(total: int | None, title: str = "", delay_s: float = 0.0) -> ProgressBar:
    """Return a progress bar that counts samples, shown in a terminal only.

    Args:
        total: number of samples; None or 0 if unknown.
        title: text in front of the bar.
        delay_s: seconds after which the bar appears.
    """
    return tqdm(
        total=total or None,
        desc=title or None,
        unit=" samples",
        delay=delay_s,
        leave=False,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )


def training_progress_bar(total: int | None, done: int, unit: str, title: str, stream: IO[str]) -> ProgressBar:
    """Return a progress bar of a training, without the speed and remaining time of tqdm.

    A terminal that is too narrow cuts its end, where the least important numbers are.

    Args:
        total: number of steps or batches; None if unknown.
        done: completed ones.
        unit: what it counts: `step`, `batch`.
        title: text in front of the bar.
        stream: terminal that shows the bar.
    """
    return tqdm(
        total=total,
        initial=done,
        desc=title,
        file=stream,
        dynamic_ncols=True,
        leave=False,
        bar_format=f"{{desc}} {{percentage:3.0f}}%|{{bar}}| {unit} {{n_fmt}}/{{total_fmt}}{{postfix}}",
    )


def format_remaining_time(seconds: float) -> str:
    """Return a duration as progress bars show it: `01:30`, `1:02:03`."""
    return tqdm.format_interval(seconds)


def display_width(text: str) -> int:
    """Return the number of columns that text takes in a terminal: Chinese characters take two."""
    width: int = disp_len(text)
    return width


def write_above_bars(text: str) -> None:
    """Write a line to standard error, above the progress bars."""
    tqdm.write(text, file=sys.stderr)
