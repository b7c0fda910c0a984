"""Groups of training steps that are executed together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


def group_steps(
    first: int, end: int, steps_per_epoch: int, steps_per_execution: int, boundaries: Sequence[int] = ()
) -> Iterator[range]:
    """Yield ranges of steps that are executed together.

    No range crosses the end of an epoch.

    Args:
        first: first step of the run.
        end: step after the last one.
        steps_per_epoch: steps in an epoch.
        steps_per_execution: maximum length of a range.
        boundaries: numbers of steps whose multiples no range crosses.

    Example:
        >>> list(group_steps(2, 10, steps_per_epoch=8, steps_per_execution=4, boundaries=[5]))
        [range(2, 5), range(5, 8), range(8, 10)]
    """
    begin = first
    while begin < end:
        stops = [begin + steps_per_execution, (begin // steps_per_epoch + 1) * steps_per_epoch, end]
        stops += [(begin // steps + 1) * steps for steps in boundaries]
        yield range(begin, min(stops))
        begin = min(stops)
