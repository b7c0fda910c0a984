"""`Evaluator`: any number that tells how good predictions are, computed in plain Python."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping

from tfaip_like.data._sample import Sample
from tfaip_like.params import Params
from tfaip_like.summaries import Summary


class Evaluator(Params, abc.ABC):
    """Judges the answers of the prediction network on validation data."""

    foreign_name_hints = dict.fromkeys(
        ("call", "compute", "result", "update", "update_state", "reset_state", "on_epoch_end", "score"),
        "all numbers are computed in `evaluate`",
    )

    lav_only: bool = False
    """Judge in load-and-validate only, not in each validation of a training."""

    @abc.abstractmethod
    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        """Named numbers from all samples with their targets and outputs, as arrays without a batch axis.

        Samples come one by one and are not kept, so any number of them fits in memory. The numbers
        are logged as `val_NAME`. What is no number (`tfaip_like.summaries`: an image of the mistakes, a
        precision-recall curve, a table) is shown by TensorBoard.
        """
