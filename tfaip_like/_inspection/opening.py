"""Data loaders of a scenario without a training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.temp_dirs import temporary_directory
from tfaip_like.data import StreamProcessor
from tfaip_like.data._loader.loader import DataLoader, no_check
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.data._sample import Mode
from tfaip_like.params._resources import check_resources
from tfaip_like.scenario import Scenario


@contextmanager
def open_data_loader(
    scenario: Scenario, mode: str, flag: str, check: Callable[[], None] = no_check
) -> Iterator[DataLoader]:
    """Provide the data loader of a mode for the duration of the block.

    Args:
        scenario: Scenario with the data.
        mode: `train` or `val`.
        flag: Flag that selected the mode, for messages.
        check: Called while waiting for samples; may raise to stop.

    Raises:
        UsageError: If there are no validation samples.
    """
    check_resources(scenario)
    with temporary_directory() as folder:
        prepared, source = scenario.prepare_for_training(Path(folder))
        seed = prepared.trainer.random_seed or 0
        if mode == "train":
            samples = prepared.trainer.samples_per_epoch
            is_stream = any(isinstance(processor, StreamProcessor) for processor in prepared.data.pipeline(Mode.TRAIN))
            if samples is None and (is_stream or not hasattr(source, "__len__")):
                samples = prepared.train.fixed_batch_size  # the length of an epoch does not matter here
            batches = open_training(prepared.data, source, prepared.train, samples, seed, check)
        else:
            source = prepared.select_source(Mode.EVALUATE)
            validation = open_validation(prepared.data, source, prepared.val, seed, check)
            if validation is None:
                raise UsageError(f"{flag} val: {type(prepared.data).__name__} has no validation samples")
            batches = validation
        try:
            yield batches
        finally:
            batches.close()
