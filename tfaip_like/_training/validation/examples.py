"""Some predicted samples of each validation, printed on the console."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like.data._sample import Sample

logger = logging.getLogger(__name__)


class ExamplePrinter:
    """Prints the first samples of each validation.

    Args:
        format_example: what is printed of a sample; None for nothing.
        num_examples: samples in each validation; -1 for all.
        origin: of `format_example`, for messages.
    """

    def __init__(self, format_example: Callable[[Sample], str | None], num_examples: int, origin: str):
        self._format_example = format_example
        self._num_examples = num_examples
        self._origin = origin
        self._num_printed = 0

    def count_remaining(self) -> int | None:
        """Return how many more samples are wanted in this validation; None for all."""
        return None if self._num_examples < 0 else max(0, self._num_examples - self._num_printed)

    def print_while_iterating(self, samples: Iterator[Sample], is_dry_run: bool = False) -> Iterator[Sample]:
        """Return all samples; the first ones are printed as they pass.

        Args:
            is_dry_run: find mistakes in `format_example`, but print nothing.

        Raises:
            UsageError: when `format_example` returned something else than a text.
        """
        self._num_printed = 0  # now, and not when the first sample is asked for
        return self._iter_and_print(samples, is_dry_run)

    def _iter_and_print(self, samples: Iterator[Sample], is_dry_run: bool) -> Iterator[Sample]:
        for sample in samples:
            if self.count_remaining() != 0:
                self._num_printed += 1
                text = self._format_example(sample)
                if text is not None and not isinstance(text, str):
                    raise UsageError(
                        f"{self._origin} returned {with_article(type(text).__name__)}; it must return a text"
                    )
                if text and not is_dry_run:
                    logger.info("example %d: %s", self._num_printed, text)
            yield sample
