"""Report of the samples that processors drop."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError

logger = logging.getLogger(__name__)

MAX_NAMED_SAMPLES = 3
"""Maximum number of samples named in a report."""


@dataclass(frozen=True)
class DroppedSample:
    """Sample that a processor dropped."""

    index: int
    """Index of the sample in the source."""
    stage: str
    """Name of the processor."""
    reason: str
    """Reason from `DropSample`; empty if the processor gives none."""
    is_part: bool = False
    """The sample is one of several that a StreamProcessor made from the source sample."""


def all_dropped_error(group: str, data: object, dropped: Sequence[DroppedSample]) -> UsageError:
    """Build the error for a pipeline without any output, with the reason for the last dropped sample.

    Args:
        group: flag group such as `train`.
        data: data with the processors.
        dropped: dropped samples.
    """
    cause = f"; {dropped[-1].stage} dropped the last one" if dropped else ""
    reason = f": {dropped[-1].reason}" if dropped and dropped[-1].reason else ""
    return UsageError(f"--{group}: the processors of {type(data).__name__} produced no samples{cause}{reason}")


class DropReport:
    """Collector of dropped samples that counts each sample once and logs a summary by processor.

    Args:
        title: prefix of the log lines, such as `--train`.
    """

    def __init__(self, title: str):
        self.title = title
        self._reasons_by_stage: dict[str, dict[int, str]] = defaultdict(dict)
        """Stage -> sample index -> reason."""
        self._describe_by_stage: dict[str, Callable[[int], str]] = {}
        self._stages_with_parts: set[str] = set()
        """Stages after a StreamProcessor, whose samples have no fixed index."""
        self._reported = 0

    def __len__(self) -> int:
        """Return the number of samples dropped so far."""
        return sum(map(len, self._reasons_by_stage.values()))

    def record(self, dropped: Iterable[DroppedSample], describe: Callable[[int], str]) -> None:
        """Record dropped samples; repeats in later passes are ignored.

        Args:
            dropped: samples of a batch.
            describe: returns the description of a sample index.
        """
        for sample in dropped:
            self._reasons_by_stage[sample.stage].setdefault(sample.index, sample.reason)
            self._describe_by_stage[sample.stage] = describe
            if sample.is_part:
                self._stages_with_parts.add(sample.stage)

    def log(self, total: int | None) -> None:
        """Log one line per processor if samples were dropped since the last call.

        Args:
            total: number of samples read; None if unknown.
        """
        if len(self) == self._reported:
            return
        self._reported = len(self)
        for stage, reasons in self._reasons_by_stage.items():
            logger.warning("%s", self._line(stage, reasons, total))

    def _line(self, stage: str, reasons: dict[int, str], total: int | None) -> str:
        of = f" of {total}" if total is not None and total >= len(reasons) else ""
        noun = "sample" if (total or len(reasons)) == 1 else "samples"
        describe = self._describe_by_stage[stage]
        named = [
            f"{describe(index)}{f': {reason}' if reason else ''}"
            for index, reason in sorted(reasons.items())[:MAX_NAMED_SAMPLES]
        ]
        if more := len(reasons) - len(named):
            named.append(f"and {more} more")
        parts = "parts of " if stage in self._stages_with_parts else ""
        return f"{self.title}: {stage} dropped {parts}{len(reasons)}{of} {noun} ({'; '.join(named)})"
