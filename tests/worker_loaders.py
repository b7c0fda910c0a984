"""Data loaders with processors in Python, and what their batches consist of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from worker_data import AtSample, Counted, Jitter, Pieces

from tfaip_like import Data, Mode, Processor
from tfaip_like.data import TrainLoaderSettings
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._loader.loader import DataLoader
from tfaip_like.data._loader.loader_factory import open_training


def open_loader(data: Data, num_processes: int, samples_per_epoch: int | None = None, **settings: Any) -> DataLoader:
    train = TrainLoaderSettings(num_processes=num_processes, **{"batch_size": 8, **settings})
    return open_training(data, data.source(Mode.TRAIN), train, samples_per_epoch, 7)


def batches_of(batches: DataLoader, first: int, end: int) -> list[bytes]:
    """Return the bytes of each batch."""
    try:
        return [to_bytes(one) for batch in batches.iter_training(first, end) for one in iter_single(batches, batch)]
    finally:
        batches.close()


def iter_single(batches: DataLoader, batch: Batch) -> Iterator[Batch]:
    return batch.unstack() if batches.yields_stacked_steps else iter([batch])


def to_bytes(batch: Batch) -> bytes:
    return b"".join(array.tobytes() for array in (*batch.inputs.values(), *batch.targets.values()))


def processors(**at_sample: Any) -> list[Processor]:
    return [Jitter(), AtSample(**at_sample)]


CASES: dict[str, tuple[Data, dict[str, Any]]] = {
    "equal batches": (Counted(processors=[Jitter()]), {}),
    "dropped samples": (Counted(processors=[Jitter(), AtSample(what="drop")]), {}),
    "ragged, in buckets": (Counted(ragged=True, processors=[AtSample(index=-1)]), {"buckets": 3}),
    "at most so long": (Counted(ragged=True, processors=[AtSample(index=-1)]), {"max_batch_length": 20}),
    "balanced": (Counted(processors=[Jitter()]), {"balance": "sample"}),
    "a stream": (Counted(processors=[Jitter(), Pieces()]), {"samples_per_epoch": 40}),
    "an iterable source": (Counted(iterable=True, processors=[Jitter()]), {"samples_per_epoch": 40}),
    "cached": (Counted(processors=[AtSample(index=-1), Jitter()]), {"cache": "memory"}),
}
