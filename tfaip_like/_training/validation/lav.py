"""Load-and-validate (LAV) during training."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tfaip_like._training.validation.validation import BatchObserver
from tfaip_like._utils.console import OnceLogger
from tfaip_like.data._loader.bad_samples import BadSampleLog
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.evaluation._evaluation import EvaluationResult
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.evaluation._output_metrics import OutputMetrics
from tfaip_like.inference._lav import NetworkWithLogits, load_and_validate
from tfaip_like.modeling._model import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LavValidation:
    """Load-and-validate on one source; each call validates the current export."""

    name: str
    """Name of the source; may be empty."""
    load_export: Callable[[], NetworkWithLogits]
    """Returns the export of the current weights, or a network in memory in its place."""
    loader: DataLoader
    model: Model
    metrics: OutputMetrics
    """Losses and metrics, compiled once for all sources."""
    evaluator: Evaluator | None
    bad_samples: BadSampleLog
    check_interrupt: Callable[[], None]
    """Called for each batch; raises to stop."""
    _once_logger: OnceLogger = field(default_factory=lambda: OnceLogger(logger))

    @property
    def prefix(self) -> str:
        """Prefix of its metrics."""
        return f"lav_{self.name}_" if self.name else "lav_"

    def __call__(self, num_batches: int | None = None, observer: BatchObserver | None = None) -> EvaluationResult:
        """Return the metrics (with prefix) and summaries of the current export.

        Args:
            num_batches: number of batches to validate on; None uses all.
            observer: sees each batch.
        """
        numbers = itertools.count()

        def on_batch(batch: Batch) -> None:
            if observer is not None:
                observer.on_batch_begin(next(numbers))
            self._record_batch(batch)

        result = load_and_validate(
            self.load_export(),
            self.loader,
            self.model,
            self.evaluator,
            on_batch=on_batch,
            log=self._once_logger.info,
            metrics=self.metrics,
            num_batches=num_batches,
        )
        return EvaluationResult(
            {f"{self.prefix}{name}": value for name, value in result.numbers.items()}, result.summaries
        )

    def _record_batch(self, batch: Batch) -> None:
        self.check_interrupt()
        self.bad_samples.record(batch.bad)
