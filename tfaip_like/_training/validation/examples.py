"""Some predicted samples of each validation, printed on the console."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from tfaip_like._utils.errors import UsageError, article
from tfaip_like.data._sample import Sample

logger = logging.getLogger(__name__)


class Examples:
    """Prints the first samples of each validation.

    Args:
        text_of: what is printed of a sample; None for nothing.
        count: samples in each validation; -1 for all.
        origin: of `text_of`, for messages.
    """

    def __init__(self, text_of: Callable[[Sample], str | None], count: int, origin: str):
        self._text_of = text_of
        self._count = count
        self._origin = origin
        self._printed = 0

    def left(self) -> int | None:
        """Return how many more samples are wanted in this validation; None for all."""
        return None if self._count < 0 else max(0, self._count - self._printed)

    def of(self, samples: Iterator[Sample], is_trial: bool = False) -> Iterator[Sample]:
        """Return all samples; the first ones are printed as they pass.

        Args:
            is_trial: find mistakes in `text_of`, but print nothing.

        Raises:
            UsageError: when `text_of` returned something else than a text.
        """
        self._printed = 0  # now, and not when the first sample is asked for
        return self._printing(samples, is_trial)

    def _printing(self, samples: Iterator[Sample], is_trial: bool) -> Iterator[Sample]:
        for sample in samples:
            if self.left() != 0:
                self._printed += 1
                text = self._text_of(sample)
                if text is not None and not isinstance(text, str):
                    raise UsageError(f"{self._origin} returned {article(type(text).__name__)}; it must return a text")
                if text and not is_trial:
                    logger.info("example %d: %s", self._printed, text)
            yield sample
