"""Line about an epoch: complete for the log file, cut to one line for the console."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tfaip_like._runs.output_dir import BOOKKEEPING_COLUMNS
from tfaip_like._runs.run_files import format_epoch
from tfaip_like._training.selection.comparison import COMPARE_PREFIX, GAIN
from tfaip_like._utils.escaping import escape_text
from tfaip_like._utils.progress_bar import display_width, format_remaining_time
from tfaip_like._utils.terminal import Style

BEST_MARK = "*"
SEPARATOR = "  "
USUAL_WIDTH = len("0.2500")
"""Width of most numbers, to which others are padded, so that the lines of all epochs align."""
NAME_LENGTHS = (None, 24, 16, 12, 8)
"""Lengths to which names are shortened, one after the other, until the most important values fit."""
MAX_SECONDARY_NAME_LENGTH = 24
"""Length of the names of all other values."""
INPUT_BOUND_SHARE = 0.5
"""Share of the time spent waiting for data from which it is more important than other values."""


@dataclass(frozen=True)
class _Value:
    """Value of an epoch as the console shows it."""

    text: str
    name: str
    """Name in front of it, which may be shortened."""
    mark: str = ""
    """Mark of the best value, or a space in its place."""

    def format(self, name_length: int | None) -> str:
        """Return name, value and mark, as wide for most numbers."""
        name = shorten(self.name, name_length) if name_length else self.name
        return f"{name} {f'{self.text}{self.mark}':<{USUAL_WIDTH + len(self.mark)}}"


class EpochLine:
    """Formatter of the line about an epoch.

    Args:
        epochs: number of epochs.
        losses: names of the losses.
        monitor: name of the monitored metric.

    Example:
        >>> row = {"epoch": 3, "loss": 0.25, "val_loss": 0.5, "lr": 0.001, "seconds": 2.5}
        >>> line = EpochLine(20, ["crossentropy"], "val_loss")
        >>> line.format_for_console(row, is_best=True, columns=80, style=Style(is_colored=False))
        'epoch 3/20:  loss 0.2500  val_loss 0.5000*  lr 0.001  2.5 s'
    """

    def __init__(self, epochs: int, losses: Sequence[str], monitor: str):
        self._epochs = epochs
        self._losses = losses
        self._monitor = monitor

    def format_complete(self, row: Mapping[str, float], is_best: bool) -> str:
        """Return all values of an epoch.

        Args:
            row: row of the history.
            is_best: whether the epoch is the best so far.
        """

        def numbers(names: Sequence[str]) -> str:
            return ", ".join(f"{name} {row[name]:.4g}" for name in names)

        groups = self._group_names(row)
        speed = f"{row['samples_per_second']:.0f} samples/s, input-bound {100 * row['input_bound']:.0f} %"
        if "mfu" in row:
            speed += f", MFU {100 * row['mfu']:.3g} %"
        gain = numbers([GAIN]) if GAIN in row else ""
        parts = [*map(numbers, groups.values()), gain, f"lr {row['lr']:.3g}, {speed}"]
        line = f"{self._format_head(row)} " + " | ".join(part for part in parts if part)
        return f"{line}  (best so far)" if is_best else line

    def format_for_console(self, row: Mapping[str, float], is_best: bool, columns: int, style: Style) -> str:
        """Return the most important values of an epoch in one line: loss, val_loss and the monitored metric first.

        Values that do not fit are left out and counted (`+3`); names are shortened.

        Args:
            row: row of the history.
            is_best: whether the epoch is the best so far.
            columns: width of the console.
            style: colors of the console.
        """
        head = self._format_head(row).ljust(len(f"epoch {self._epochs}/{self._epochs}:"))
        values = list(self._iter_values(row, is_best))
        end = _format_duration(row["seconds"]) if "seconds" in row else ""
        num_primary = sum(name in row for name in self._primary_names())
        shown = _fit(values, num_primary, columns - 1 - len(head) - 1 - len(SEPARATOR) - len(end))
        if len(shown) < len(values):
            shown.append(f"+{len(values) - len(shown)}")
        line = f"{head} {SEPARATOR.join(filter(None, [*shown, end]))}".rstrip()
        best = next((text.rstrip() for text in shown if text.rstrip().endswith(BEST_MARK)), None)
        return line.replace(best, style.best(best), 1) if best else line

    def _format_head(self, row: Mapping[str, float]) -> str:
        """Return the epoch, or the step of a validation within an epoch."""
        is_within = row["epoch"] != int(row["epoch"])
        step = f" (step {row['step']:.0f})" if is_within and "step" in row else ""
        return f"epoch {format_epoch(row['epoch'])}/{self._epochs}{step}:"

    def _primary_names(self) -> list[str]:
        return list(dict.fromkeys(["loss", "val_loss", self._monitor]))

    def _iter_values(self, row: Mapping[str, float], is_best: bool) -> Iterator[_Value]:
        """Yield the values of an epoch, the most important first."""
        primary = self._primary_names()
        groups = self._group_names(row)
        others = [*groups["val_"], *groups[""], *groups["lav_"], *([GAIN] if GAIN in row else [])]
        for name in (*primary, *(name for name in others if name not in primary)):
            if name in row:
                mark = (BEST_MARK if is_best else " ") if name == self._monitor else ""
                yield _Value(_format_number(row[name]), escape_text(name), mark)
            if name == primary[-1] and row.get("input_bound", 0) >= INPUT_BOUND_SHARE:
                yield _Value(f"{100 * row['input_bound']:.0f} %", "input-bound")
        yield _Value(f"{row['lr']:.3g}", "lr")

    def _group_names(self, row: Mapping[str, float]) -> dict[str, list[str]]:
        """Return the names of losses and metrics by prefix; a single loss equals the total and is left out."""
        single = self._losses[0] if len(self._losses) == 1 else None
        groups: dict[str, list[str]] = {"": [], "val_": [], "lav_": []}
        for name in row:
            if name in BOOKKEEPING_COLUMNS or name.startswith(COMPARE_PREFIX):
                continue
            prefix = next((prefix for prefix in ("val_", "lav_") if name.startswith(prefix)), "")
            if prefix == "lav_" or name != f"{prefix}{single}" or row[name] != row[f"{prefix}loss"]:
                groups[prefix].append(name)
        return groups


def _fit(values: Sequence[_Value], num_primary: int, width: int) -> list[str]:
    """Return the values that fit as text.

    The names of the primary values are shortened if necessary; of these the first and the last, the monitored one,
    are kept longest.
    """
    count = len(SEPARATOR) + len(f"+{len(values)}")  # of the values that are left out
    primary = values[:num_primary]
    choices = (
        [value.format(length) for value in kept]
        for kept in (primary, [*primary[:1], *primary[-1:]])
        for length in NAME_LENGTHS
    )
    texts = next((texts for texts in choices if _width_of(texts) + count <= width), None)
    if texts is None:
        return [values[0].format(NAME_LENGTHS[-1])]
    for value in values[num_primary:] if len(texts) == num_primary else ():
        text = value.format(MAX_SECONDARY_NAME_LENGTH)
        is_complete = len(texts) == len(values) - 1
        if _width_of([*texts, text]) + (0 if is_complete else count) <= width:
            texts.append(text)
    return texts


def _width_of(texts: Sequence[str]) -> int:
    return display_width(SEPARATOR.join(texts))


def shorten(name: str, length: int) -> str:
    """Return a name that is at most `length` columns wide, without its middle, because names often differ at the end.

    Args:
        name: name of a metric.
        length: maximum number of columns.

    Example:
        >>> shorten("val_character_error_rate", 16)
        'val_cha..or_rate'
    """
    if display_width(name) <= length:
        return name
    tail = (length - 2 + 1) // 2
    return f"{_cut(name, length - 2 - tail)}..{_cut(name[::-1], tail)[::-1]}"


def _cut(text: str, length: int) -> str:
    """Return the beginning of a text that is at most `length` columns wide."""
    text = text[:length]
    while display_width(text) > length:
        text = text[:-1]
    return text


def _format_number(value: float) -> str:
    """Return a number with four digits, three if it is small; zeros are included, so that lines of epochs align."""
    if 0.01 <= abs(value) < 0.1:
        return f"{value:.4f}"
    return f"{value:#.4g}".removesuffix(".") if abs(value) >= 0.1 or not value else f"{value:.3g}"


def _format_duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 99.95 else format_remaining_time(seconds)
