"""Schema of a checkpoint's `state.json`: the training state that is not an array."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from tfaip_like._runs.run_files import decode_row
from tfaip_like._utils.json_files import Json
from tfaip_like._utils.typed_json import AtLeast, Count, Seconds, decode


class SavedBatching(TypedDict):
    """Settings that determine the samples of each step and the steps per execution."""

    steps_per_epoch: Annotated[int, AtLeast(1)]
    batch_size: Count
    accumulate: Count
    stacked: bool
    backend: str


class SavedStream(TypedDict):
    """Position in an iterable-only source."""

    counted: tuple[Count, Count, Count] | None
    batch: Count
    bookmark: tuple[Count, tuple[int, ...], Count]


class SavedBestValue(TypedDict):
    """Best value so far, and its place."""

    value: float | None
    epoch: float | None
    step: Count | None


class SavedBest(SavedBestValue):
    """Best epoch so far, and the monitored metric."""

    monitor: str
    mode: Literal["min", "max"]


class SavedElapsed(TypedDict):
    """Elapsed part of the run."""

    epochs: float
    steps: Count
    seconds: Seconds | None
    """None if early stopping does not depend on time."""


class SavedEarlyStop(TypedDict):
    """State of early stopping."""

    best: SavedBestValue
    last_improvement: SavedBestValue
    failed_tests: Count
    improved: bool | None
    updated_at: SavedElapsed
    waiting_since: SavedElapsed


class SavedStop(TypedDict):
    """Reason for early stopping, and the settings that led to it."""

    reason: str | None
    settings: dict[str, Json]


class SavedPlateau(TypedDict):
    """State of the learning-rate reduction on a plateau."""

    best: float
    waited: Count
    cooling: Count
    factor: Annotated[float, AtLeast(0)]


class SavedState(TypedDict):
    """Contents of `state.json`."""

    batching: SavedBatching
    stream: NotRequired[SavedStream | None]
    at_once: Count
    schedule_begin: Seconds
    schedule_offset: int
    seconds: Seconds
    waited: Seconds
    evaluated_step: Count
    evaluated_seconds: Seconds
    metrics: dict[str, float] | None
    history: list[dict[str, float]]
    best: SavedBest
    early_stop: SavedEarlyStop
    stop: SavedStop
    plateau: SavedPlateau | None
    best_checkpoints: dict[str, float]
    callbacks: list[dict[str, Any]]
    logged: dict[str, float]


def decode_state(values: Mapping[str, Any], where: str) -> SavedState:
    """Convert the contents of `state.json` into their types.

    Args:
        values: JSON values.
        where: name of the file, for messages.

    Raises:
        UsageError: if a value is invalid; names the key.
    """
    state = decode(SavedState, dict(values), where)
    for number, row in enumerate(state["history"]):
        decode_row(dict(row), f"{where}: history.{number}")
    return state
