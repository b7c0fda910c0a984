"""Values that loggers are given: hyperparameters, and the results of each epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from tfaip_like.loggers import Logger, ParamValue
from tfaip_like.params._base import ParamsBase
from tfaip_like.params._field_rules import UniquePerRun, find_rule
from tfaip_like.params._formatting import format_value
from tfaip_like.params._tree import iter_leaves
from tfaip_like.params._types import params_classes
from tfaip_like.summaries import Summary


@dataclass(frozen=True)
class LoggedEpoch:
    """Results of an epoch, or of a validation within it."""

    epoch: float
    """Completed epochs; a fraction within an epoch."""
    step: int
    """Completed steps of the run."""
    metrics: Mapping[str, float]
    summaries: Mapping[str, Summary] = field(default_factory=dict)
    """Summaries of the validations, by name with prefix."""
    best: Mapping[str, float] | None = None
    """Monitored value and losses if the epoch is the best so far."""

    def calls(self, logger: Logger) -> Iterator[tuple[str, Callable[[], None]]]:
        """Yield name and call of each method of a logger that logs the epoch."""
        yield "log_metrics", partial(logger.log_metrics, self.metrics, self.step, self.epoch)
        for name, summary in self.summaries.items():
            yield "log_summary", partial(logger.log_summary, name, summary, self.step, self.epoch)
        if self.best is not None:
            yield "log_best", partial(logger.log_best, self.best, self.step, self.epoch)


def collect_hyperparameters(tree: ParamsBase) -> dict[str, ParamValue]:
    """Return the parameters of a tree by flag name: numbers and booleans, and all other values as strings.

    Groups with a fixed class are omitted.
    """
    values: dict[str, ParamValue] = {}
    for leaf in iter_leaves(tree):
        name, value = leaf.flag.removeprefix("--"), leaf.value
        is_choice = params_classes(leaf.type) != (type(value),)
        if is_choice and find_rule(tree, leaf.path, UniquePerRun) is None:
            text = "none" if isinstance(value, (list, tuple, dict)) and not value else format_value(leaf.type, value)
            values[name] = value if isinstance(value, (bool, int, float)) else text
    return values
