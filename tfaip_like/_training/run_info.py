"""Size of a training run, for the log and the report."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._training.components import TrainingComponents
from tfaip_like._training.data_fingerprints import fingerprint_data, warn_changed_data
from tfaip_like._training.epoch_line import BEST_MARK
from tfaip_like._training.provenance import RunMetadata
from tfaip_like._training.reporter import best_effort
from tfaip_like._utils.console import log_with_console_line
from tfaip_like._utils.errors import pluralize
from tfaip_like._utils.files import atomic_write_text
from tfaip_like.modeling._network import Networks
from tfaip_like.params._tree import non_default_flags

logger = logging.getLogger(__name__)


def log_training_summary(components: TrainingComponents) -> None:
    """Log the number of samples, epochs, steps and parameters."""
    loader, trainer = components.loader, components.trainer
    samples, batch_size = len(loader), loader.batch_size
    logger.info(
        "Training on %s: %s x %s (batch size %s%d), %s%s",
        pluralize(samples, "sample") if samples else "a stream of samples",
        pluralize(trainer.epochs, "epoch"),
        pluralize(loader.steps_per_epoch, "step"),
        f"{loader.accumulate} x " if loader.accumulate > 1 else "",
        batch_size,
        f"{_count_trainable_weights(components):,} trainable parameters",
        f", {components.steps_per_execution} steps per execution" if components.steps_per_execution > 1 else "",
    )
    length = getattr(loader.samples.source, "batch_length", None)
    if length not in (None, batch_size):
        logger.info(
            "The dataset has batches of %d samples; the training uses those of --train.batch_size %d",
            length,
            batch_size,
        )
    best = components.selection.best
    monitor = f"Best epoch by {best.monitor} ({best.mode})"
    legend = f"{monitor}, marked by {BEST_MARK}. +N counts values that do not fit the line."
    log_with_console_line(logger, monitor, lambda columns, style: legend)
    if 0 < samples < batch_size and loader.yields_stacked_steps:
        logger.warning(
            "batch size %d exceeds the dataset size %d; samples are repeated within a batch", batch_size, samples
        )


def record_training_info(components: TrainingComponents, metadata: RunMetadata) -> None:
    """Record dataset sizes, parameter count and monitored metric in `run.json`, and the network in `model.txt`."""
    validations, best = components.validations.all, components.selection.best
    sources, files = fingerprint_data(components)
    before = metadata.values
    warn_changed_data((before.get("data_fingerprints", {}), before.get("data_files", {})), (sources, files))
    loaders = {"train": components.loader, **{each.prefix.removesuffix("_"): each.loader for each in validations}}
    metadata.update(
        data={kind: len(loader) or None for kind, loader in loaders.items()},  # None: a stream
        data_fingerprints=sources,
        data_files=files,
        weights=_count_trainable_weights(components),
        samples_per_epoch=components.loader.samples_per_epoch,
        best_by={"monitor": best.monitor, "mode": best.mode},
        parameters=non_default_flags(components.scenario),
    )
    best_effort(
        metadata.output_dir,
        lambda output_dir: atomic_write_text(output_dir.model, _format_model_summary(components.networks)),
    )


def _format_model_summary(networks: Networks) -> str:
    lines: list[str] = []
    with _terminal_width(100):
        networks.training.summary(print_fn=lines.append)
        if networks.prediction is not networks.training:
            lines.append("\nprediction network:\n")
            networks.prediction.summary(print_fn=lines.append)
        if networks.exported is not networks.prediction:
            lines.append("\nexported network:\n")
            networks.exported.summary(print_fn=lines.append)
    return "\n".join([*lines, "\nweights by path:\n", *_list_weights(networks.training)]) + "\n"


def _list_weights(network: keras.Model) -> list[str]:
    """Return a line for each weight of a network, with the path that selects it for freezing and warm start."""
    weights = weight_paths(network)
    width = max(map(len, weights), default=0)
    return [
        f"{path:<{width}}  {tuple(weight.shape)}{'' if weight.trainable else '  not trained'}"
        for path, weight in weights.items()
    ]


@contextmanager
def _terminal_width(columns: int) -> Iterator[None]:
    """Set the terminal width, to which Keras truncates its summary."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before


def _count_trainable_weights(components: TrainingComponents) -> int:
    return sum(math.prod(variable.shape) for variable in components.model.trainable_variables)
