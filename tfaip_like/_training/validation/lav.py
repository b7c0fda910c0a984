"""Load-and-validate while training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tfaip_like._export.exported_model import ExportedModel
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.evaluation._evaluation import EvaluationResult
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.inference._lav import MetricAverager, load_and_validate
from tfaip_like.modeling._model import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LavValidation:
    """Load-and-validate on one source, as often as it is called."""

    name: str
    """Of the source; may be empty."""
    load_export: Callable[[], ExportedModel]
    """Gives the export of this moment."""
    loader: DataLoader
    model: Model
    averages: MetricAverager
    """Of this model; all sources share them."""
    evaluator: Evaluator | None
    bad_samples: BadSampleLog
    check_interrupt: Callable[[], None]
    _logged_messages: set[str] = field(default_factory=set)

    @property
    def prefix(self) -> str:
        """What its names begin with."""
        return f"lav_{self.name}_" if self.name else "lav_"

    def __call__(self, num_batches: int | None = None) -> EvaluationResult:
        """Return named numbers of the export of this moment, each with the prefix in front, and summaries.

        Args:
            num_batches: validate on the first batches only.
        """
        judged = load_and_validate(
            self.load_export(),
            self.loader,
            self.model,
            self.evaluator,
            on_batch=self._record_batch,
            log=self._log_once,
            averages=self.averages,
            num_batches=num_batches,
        )
        return EvaluationResult(
            {f"{self.prefix}{name}": value for name, value in judged.numbers.items()}, judged.summaries
        )

    def _record_batch(self, batch: Batch) -> None:
        self.check_interrupt()
        self.bad_samples.record(batch.bad)

    def _log_once(self, message: str) -> None:
        if message not in self._logged_messages:
            self._logged_messages.add(message)
            logger.info(message)
