"""What `state.json` of a checkpoint holds: all that is not an array."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from tfaip_like._utils.json_files import Json
from tfaip_like._utils.typed_json import Count, Seconds


class SavedBatching(TypedDict):
    """What decides which samples a step has, and how many steps are run at once."""

    steps_per_epoch: Count
    batch_size: Count
    accumulate: Count
    stacked: bool
    backend: str


class SavedStream(TypedDict):
    """Where the samples of a stream, which have no index, are read on."""

    counted: list[Any] | None
    batch: Count
    bookmark: list[Any]


class SavedEpochResult(TypedDict):
    """What the steps of an epoch gave, if all of them were done."""

    epoch: Count
    values: dict[str, float]
    seconds: Seconds
    waited: Seconds


class SavedBestValue(TypedDict):
    """The best value so far, and its epoch."""

    value: float | None
    epoch: Count | None


class SavedBest(SavedBestValue):
    """The best epoch so far, and how it is found."""

    monitor: str
    mode: Literal["min", "max"]


class SavedEarlyStop(TypedDict):
    """The state of early stopping."""

    best: SavedBestValue
    last_improvement: SavedBestValue
    failed_tests: Count
    improved: bool | None


class SavedStop(TypedDict):
    """Why the training ended early, and the settings under which it did."""

    reason: str | None
    settings: dict[str, Json]


class SavedPlateau(TypedDict):
    """The state of a learning rate that is lowered on a plateau."""

    best: float
    waited: float
    cooling: float
    factor: float


class SavedState(TypedDict):
    """The whole state."""

    batching: SavedBatching
    stream: NotRequired[SavedStream | None]
    at_once: Count
    schedule_begin: Seconds
    schedule_offset: int
    seconds: Seconds
    waited: Seconds
    trained: SavedEpochResult | None
    history: list[dict[str, float]]
    best: SavedBest
    early_stop: SavedEarlyStop
    stop: SavedStop
    plateau: SavedPlateau | None
