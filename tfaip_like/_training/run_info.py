"""What a training is going to do: told, and kept for the report."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.provenance import RunMetadata
from tfaip_like._training.reporter import best_effort
from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.files import atomic_write_text
from tfaip_like.modeling._network import Networks
from tfaip_like.params._tree import non_default_flags

logger = logging.getLogger(__name__)


def log_training_summary(components: TrainingComponents) -> None:
    """Logs how much there is to train, and on what."""
    loader, trainer = components.loader, components.trainer
    samples, batch_size = len(loader), loader.batch_size
    logger.info(
        "%s, %s; %s of %s of %s%s%s",
        pluralize(samples, "sample") if samples else "a stream of samples",
        pluralize(_count_trainable_weights(components), "weight"),
        pluralize(trainer.epochs, "epoch"),
        pluralize(loader.steps_per_epoch, "step"),
        f"{loader.accumulate} times " if loader.accumulate > 1 else "",
        pluralize(batch_size, "sample"),
        f", {components.steps_per_execution} steps at once" if components.steps_per_execution > 1 else "",
    )
    if 0 < samples < batch_size and loader.yields_stacked_steps:
        logger.warning(
            "a batch has more samples (%d) than there are (%d): some are in it more than once", batch_size, samples
        )


def record_training_info(components: TrainingComponents, record: RunMetadata) -> None:
    """Keeps what a report needs to know and only a training can say."""
    epoch_finalizer = components.epoch_finalizer
    loader = {"train": components.loader}
    if epoch_finalizer.validation is not None:
        loader["val"] = epoch_finalizer.validation.loader
    loader |= {lav.prefix.removesuffix("_"): lav.loader for lav in epoch_finalizer.lavs.values()}
    best = epoch_finalizer.best
    record.update(
        data={kind: len(of_kind) or None for kind, of_kind in loader.items()},  # None: a stream
        weights=_count_trainable_weights(components),
        samples_per_epoch=components.loader.samples_per_epoch,
        best_by={"monitor": best.monitor, "mode": best.mode},
        parameters=non_default_flags(components.scenario),
    )
    best_effort(
        record.output_dir,
        lambda output_dir: atomic_write_text(output_dir.model, _format_model_summary(components.networks)),
    )


def _format_model_summary(networks: Networks) -> str:
    """The layers as Keras tells them."""
    lines: list[str] = []
    with _terminal_width(100):
        networks.training.summary(print_fn=lines.append)
        if networks.prediction is not networks.training:
            lines.append("\nto predict:\n")
            networks.prediction.summary(print_fn=lines.append)
        if networks.exported is not networks.prediction:
            lines.append("\nto export:\n")
            networks.exported.summary(print_fn=lines.append)
    return "\n".join(lines) + "\n"


@contextmanager
def _terminal_width(number: int) -> Iterator[None]:
    """Text of this width, whatever terminal there is: Keras cuts off what does not fit into it."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(number)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _count_trainable_weights(components: TrainingComponents) -> int:
    return sum(math.prod(variable.shape) for variable in components.model.trainable_variables)
