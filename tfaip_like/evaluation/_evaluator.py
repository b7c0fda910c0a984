"""Base class `Evaluator`: metrics of predictions, computed in plain Python."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping

from tfaip_like.data._sample import Sample
from tfaip_like.params import Params
from tfaip_like.summaries import Summary


class Evaluator(Params, abc.ABC):
    """Metrics computed from predictions on validation data.

    Example:
        >>> class Accuracy(Evaluator):
        ...     def evaluate(self, samples):
        ...         hits = [sample.outputs["class"] == sample.targets["label"] for sample in samples]
        ...         return {"accuracy": sum(hits) / len(hits)}
        >>> Accuracy().evaluate([Sample(targets={"label": 1}, outputs={"class": i}) for i in (1, 2)])
        {'accuracy': 0.5}
    """

    foreign_name_hints = dict.fromkeys(
        ("call", "compute", "result", "update", "update_state", "reset_state", "on_epoch_end", "score"),
        "compute all metrics in `evaluate`",
    )

    lav_only: bool = False
    """Evaluate only in load-and-validate, not in the validations during training."""

    @abc.abstractmethod
    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        """Return named metrics, logged as `val_NAME`, and summaries, logged to TensorBoard.

        Args:
            samples: Iterator over all samples with targets and outputs, as arrays without a batch axis. It can be
                consumed once; samples are not kept in memory.
        """
