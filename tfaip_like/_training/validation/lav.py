"""Load-and-validate while training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from tfaip_like._export.exported import Exported
from tfaip_like.data._loader.bad_samples import BadSamples
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import Batches
from tfaip_like.evaluation._evaluation import Judged
from tfaip_like.evaluation._evaluator import Evaluator
from tfaip_like.inference._lav import Averages, load_and_validate
from tfaip_like.modeling._model import Model

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lav:
    """Load-and-validate on one source, as often as it is called."""

    name: str
    """Of the source; may be empty."""
    load: Callable[[], Exported]
    """Gives the export of this moment."""
    batches: Batches
    model: Model
    averages: Averages
    """Of this model; all sources share them."""
    evaluator: Evaluator | None
    bad_samples: BadSamples
    check_interrupt: Callable[[], None]
    _told: set[str] = field(default_factory=set)

    @property
    def prefix(self) -> str:
        """What its names begin with."""
        return f"lav_{self.name}_" if self.name else "lav_"

    def __call__(self, num_batches: int | None = None) -> Judged:
        """Return named numbers of the export of this moment, each with the prefix in front, and summaries.

        Args:
            num_batches: validate on the first batches only.
        """
        judged = load_and_validate(
            self.load(),
            self.batches,
            self.model,
            self.evaluator,
            each_batch=self._note,
            tell=self._tell_once,
            averages=self.averages,
            num_batches=num_batches,
        )
        return Judged({f"{self.prefix}{name}": value for name, value in judged.numbers.items()}, judged.summaries)

    def _note(self, batch: Batch) -> None:
        self.check_interrupt()
        self.bad_samples.note(batch.bad)

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            logger.info(message)
