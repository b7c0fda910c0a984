"""Schema of a checkpoint's `state.json`: the training state that is not an array.

Raise the version of `STATE_FORMAT` and register a migration when a field is added, removed or redefined.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tfaip_like._runs.run_files import decode_row
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.json_files import Json
from tfaip_like._utils.typed_json import AtLeast, Count, Seconds
from tfaip_like.data._loader.streams import StreamState


@dataclass(frozen=True)
class Batching:
    """Settings that determine the samples of each step and the steps per execution."""

    steps_per_epoch: Annotated[int, AtLeast(1)]
    batch_size: Count
    accumulate: Count
    stacked: bool
    backend: str
    """Steps per execution differ between backends."""


@dataclass(frozen=True)
class BestValue:
    """Best value so far, and its place; all None before the first."""

    value: float | None
    epoch: float | None
    step: Count | None


@dataclass(frozen=True)
class ElapsedState:
    """Elapsed part of the run."""

    epochs: float
    steps: Count
    seconds: Seconds | None
    """None if early stopping does not depend on time."""


@dataclass(frozen=True)
class EarlyStoppingState:
    """State of early stopping."""

    best: BestValue
    last_improvement: BestValue
    failed_tests: Count
    improved: bool | None
    updated_at: ElapsedState
    waiting_since: ElapsedState


@dataclass(frozen=True)
class PlateauState:
    """State of the learning-rate reduction on a plateau."""

    best: float
    waited: Count
    cooling: Count
    factor: Annotated[float, AtLeast(0)]


@dataclass(frozen=True)
class SelectionState:
    """State of model selection."""

    monitor: str
    mode: Literal["min", "max"]
    best: BestValue
    early_stopping: EarlyStoppingState
    stop_reason: str | None
    """Reason for early stopping."""
    stop_settings: dict[str, Json]
    """Settings of early stopping that led to it."""
    plateau: PlateauState | None
    best_checkpoints: dict[str, float]
    """Epoch of each of the best checkpoints by its name."""


@dataclass(frozen=True)
class CallbackState:
    """State of a callback."""

    class_name: str
    """Class as `module:Class`."""
    state: Any
    """Result of `state_dict`, as JSON values."""


@dataclass(frozen=True)
class SavedState:
    """Contents of `state.json`; the position is in the name of the checkpoint."""

    batching: Batching
    stream: StreamState | None
    """Position in an iterable-only source."""
    steps_per_execution: Count
    pads_lengths: bool
    """Whether batches of variable lengths are padded to a few shapes."""
    schedule_begin: Seconds
    """Epoch at which the learning-rate schedule starts."""
    schedule_offset: int
    seconds: Seconds
    """Duration of all completed steps of the run."""
    waited: Seconds
    """Seconds spent waiting for data since the last evaluation."""
    evaluated_step: Count
    """Step of the current epoch at its last evaluation."""
    evaluated_seconds: Seconds
    """Value of `seconds` at the last evaluation."""
    metrics: dict[str, float] | None
    """Training metrics of the epoch so far, if an evaluation is next."""
    history: list[dict[str, float]]
    selection: SelectionState
    callbacks: list[CallbackState]
    logged: dict[str, float]
    """Values that callbacks have logged since the last evaluation."""

    def __post_init__(self) -> None:
        rows = [decode_row(dict(row), f"history.{number}") for number, row in enumerate(self.history)]
        object.__setattr__(self, "history", rows)


STATE_FORMAT = FileFormat(
    "checkpoint",
    SavedState,
    version=3,
    migrations={2: lambda values: values},  # `stream.source` was added, which is empty by default
    oldest=2,  # the names of its variables (`variables.npz`) changed, and depend on the network
    advice="Resume with the version of tfaip_like that wrote it (run.json: versions), or start a new run from the "
    "weights of its export with --warmstart.model RUN/best.",
)
