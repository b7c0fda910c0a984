"""Example predictions printed in each validation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like.data._sample import Sample

logger = logging.getLogger(__name__)


class ExamplePrinter:
    """Printer of the first samples of each validation.

    Args:
        format_example: returns the text of a sample, or None to print nothing.
        num_examples: samples per validation; -1 prints all.
        origin: name of `format_example`, for errors.
    """

    def __init__(self, format_example: Callable[[Sample], str | None], num_examples: int, origin: str):
        self._format_example = format_example
        self._num_examples = num_examples
        self._origin = origin
        self._num_printed = 0

    def count_remaining(self) -> int | None:
        """Return the number of samples still to print in this validation; None means all."""
        return None if self._num_examples < 0 else max(0, self._num_examples - self._num_printed)

    def print_while_iterating(self, samples: Iterator[Sample], is_dry_run: bool = False) -> Iterator[Sample]:
        """Return an iterator over all samples that prints the first ones.

        Args:
            samples: predicted samples.
            is_dry_run: call `format_example`, which finds errors in it, but print nothing.

        Raises:
            UsageError: if `format_example` returns neither a string nor None.
        """
        self._num_printed = 0  # reset here, not lazily in the generator
        return self._iter_and_print(samples, is_dry_run)

    def _iter_and_print(self, samples: Iterator[Sample], is_dry_run: bool) -> Iterator[Sample]:
        for sample in samples:
            if self.count_remaining() != 0:
                self._num_printed += 1
                text = self._format_example(sample)
                if text is not None and not isinstance(text, str):
                    raise UsageError(
                        f"{self._origin} returned {with_article(type(text).__name__)}; it must return a string"
                    )
                if text and not is_dry_run:
                    logger.info("example %d: %s", self._num_printed, text)
            yield sample
