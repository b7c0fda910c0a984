"""What a training is going to do: told, and kept for the report."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

from tfaip_like._training.components import Parts
from tfaip_like._training.provenance import RunRecord
from tfaip_like._training.reporter import told_only
from tfaip_like._utils.errors import counted
from tfaip_like._utils.files import write_text
from tfaip_like.modeling._network import Networks
from tfaip_like.params._tree import changed_flags

logger = logging.getLogger(__name__)


def tell_plan(parts: Parts) -> None:
    """Logs how much there is to train, and on what."""
    batches, trainer = parts.batches, parts.trainer
    samples, batch_size = len(batches), batches.batch_size
    logger.info(
        "%s, %s; %s of %s of %s%s%s",
        counted(samples, "sample") if samples else "a stream of samples",
        counted(_weights(parts), "weight"),
        counted(trainer.epochs, "epoch"),
        counted(batches.steps_per_epoch, "step"),
        f"{batches.accumulate} times " if batches.accumulate > 1 else "",
        counted(batch_size, "sample"),
        f", {parts.at_once} steps at once" if parts.at_once > 1 else "",
    )
    if 0 < samples < batch_size and batches.is_stacked:
        logger.warning(
            "a batch has more samples (%d) than there are (%d): some are in it more than once", batch_size, samples
        )


def record_plan(parts: Parts, record: RunRecord) -> None:
    """Keeps what a report needs to know and only a training can say."""
    epoch_end = parts.epoch_end
    batches = {"train": parts.batches}
    if epoch_end.validate is not None:
        batches["val"] = epoch_end.validate.batches
    batches |= {lav.prefix.removesuffix("_"): lav.batches for lav in epoch_end.lavs.values()}
    best = epoch_end.best
    record.note(
        data={kind: len(of_kind) or None for kind, of_kind in batches.items()},  # None: a stream
        weights=_weights(parts),
        best_by={"monitor": best.monitor, "mode": best.mode},
        parameters=changed_flags(parts.scenario),
    )
    told_only(record.folder, lambda folder: write_text(folder.model, _layers(parts.networks)))


def _layers(networks: Networks) -> str:
    """The layers as Keras tells them."""
    lines: list[str] = []
    with _columns(100):
        networks.training.summary(print_fn=lines.append)
        if networks.prediction is not networks.training:
            lines.append("\nto predict:\n")
            networks.prediction.summary(print_fn=lines.append)
        if networks.exported is not networks.prediction:
            lines.append("\nto export:\n")
            networks.exported.summary(print_fn=lines.append)
    return "\n".join(lines) + "\n"


@contextmanager
def _columns(number: int) -> Iterator[None]:
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


def _weights(parts: Parts) -> int:
    return sum(math.prod(variable.shape) for variable in parts.model.trainable_variables)
