"""Out-of-memory errors of all backends, and advice on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tfaip_like._utils.errors import UsageError, short_error_message
from tfaip_like._utils.files import is_disk_full_error
from tfaip_like.scenario import Scenario

_CLASSES = {"ResourceExhaustedError", "OutOfMemoryError", "MemoryError"}
"""Classes of TensorFlow, PyTorch and Python."""
_MARKERS = ("RESOURCE_EXHAUSTED", "Out of memory", "can't allocate memory")
"""Texts in the errors of JAX, and of PyTorch on a CPU."""


def is_out_of_memory_error(error: BaseException) -> bool:
    """Return whether an error of any backend reports that memory cannot be allocated."""
    if is_disk_full_error(error):  # for TensorFlow, this is an exhausted resource too
        return False
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & _CLASSES) or ("RuntimeError" in names and any(marker in str(error) for marker in _MARKERS))


@contextmanager
def explain_out_of_memory(
    scenario: Scenario, estimate_batch_size: Callable[[], int | None] = lambda: None
) -> Iterator[None]:
    """Raise `UsageError` with remedies instead of an out-of-memory error in the block.

    Args:
        scenario: scenario of the training.
        estimate_batch_size: returns the estimated maximum batch size; None if unknown.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory_error(error):
            raise
        raise UsageError(_advice(scenario, error, estimate_batch_size())) from error


def _advice(scenario: Scenario, error: Exception, estimated: int | None) -> str:
    size, accumulate = scenario.train.fixed_batch_size, scenario.trainer.accumulate_steps
    smaller = max(1, estimated or size // 2)
    fits = f"about {estimated} should fit (estimate); " if estimated else ""
    parts = -(-size // smaller)
    return (
        f"out of memory (--train.batch_size {size}): {short_error_message(error)}\n"
        f"{fits}--train.batch_size auto finds the largest batch size that fits.\n"
        f"The same step with less memory: --train.batch_size {-(-size // parts)} --trainer.accumulate_steps "
        f"{accumulate * parts}, or --trainer.remat '.*' (recomputes activations)."
    )
