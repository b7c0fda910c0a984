"""Samples that processors drop: counted by processor, and reported once with the first few names."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError

logger = logging.getLogger(__name__)

MAX_NAMED_SAMPLES = 3
"""Samples that a report names."""


@dataclass(frozen=True)
class DroppedSample:
    """A sample that a processor dropped."""

    index: int
    """Of the sample in the source."""
    stage: str
    """The processor."""
    reason: str
    """Empty where the processor gives none."""
    is_part: bool = False
    """Whether it was one of many that a StreamProcessor made of the sample in the source."""


def all_dropped_error(group: str, data: object, dropped: Sequence[DroppedSample]) -> UsageError:
    """Return the error that the processors of data make nothing, with the reason for the last sample they dropped.

    Args:
        group: `train`, `val`.
    """
    why = f"; {dropped[-1].stage} dropped the last one" if dropped else ""
    reason = f": {dropped[-1].reason}" if dropped and dropped[-1].reason else ""
    return UsageError(f"--{group}: the processors of {type(data).__name__} make no sample at all{why}{reason}")


class DropReport:
    """Collects what was dropped, each sample once, and logs it.

    Args:
        title: what a line begins with: `--train`, `--val`.
    """

    def __init__(self, title: str):
        self.title = title
        self._reasons_by_stage: dict[str, dict[int, str]] = defaultdict(dict)
        """Stage -> index of the sample -> reason."""
        self._describe_by_stage: dict[str, Callable[[int], str]] = {}
        self._stages_with_parts: set[str] = set()
        """Stages after a StreamProcessor; their samples have no fixed index."""
        self._reported = 0

    def __len__(self) -> int:
        """Number of samples that were dropped so far."""
        return sum(map(len, self._reasons_by_stage.values()))

    def record(self, dropped: Iterable[DroppedSample], place_of: Callable[[int], str]) -> None:
        """Take what was dropped, also again in a later pass.

        Args:
            place_of: names a sample by its index.
        """
        for one in dropped:
            self._reasons_by_stage[one.stage].setdefault(one.index, one.reason)
            self._describe_by_stage[one.stage] = place_of
            if one.is_part:
                self._stages_with_parts.add(one.stage)

    def log(self, total: int | None) -> None:
        """Log one line for each processor, unless nothing is new since the last call.

        Args:
            total: samples that were read; None if it is not known.
        """
        if len(self) == self._reported:
            return
        self._reported = len(self)
        for stage, reasons in self._reasons_by_stage.items():
            logger.warning("%s", self._line(stage, reasons, total))

    def _line(self, stage: str, reasons: dict[int, str], total: int | None) -> str:
        of = f" of {total}" if total is not None and total >= len(reasons) else ""
        noun = "sample" if (total or len(reasons)) == 1 else "samples"
        place_of = self._describe_by_stage[stage]
        named = [
            f"{place_of(index)}{f': {why}' if why else ''}"
            for index, why in sorted(reasons.items())[:MAX_NAMED_SAMPLES]
        ]
        if more := len(reasons) - len(named):
            named.append(f"and {more} more")
        parts = "parts of " if stage in self._stages_with_parts else ""
        return f"{self.title}: {stage} dropped {parts}{len(reasons)}{of} {noun} ({'; '.join(named)})"
