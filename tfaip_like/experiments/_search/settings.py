"""Options of a search, and its settings, which are stored in `search/search.json` of its batch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, cast

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat
from tfaip_like._utils.json_files import Json
from tfaip_like._utils.locks import is_locked
from tfaip_like._utils.typed_json import AtLeast, Count
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._submit import SubmitOptions
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file
from tfaip_like.params._base import field_types
from tfaip_like.params._tree import validate_params
from tfaip_like.params._values import encode_value

SETTINGS_FILENAME = "search.json"
LOCK_FILENAME = ".lock"


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search."""

    configuration: str
    """Name of the configuration whose random values are searched."""
    trials: Annotated[int, AtLeast(1)]
    """Number of runs."""
    seed: Count
    """Seed of the sampler."""
    prune: bool
    """Whether unpromising runs are stopped early."""
    mode: Literal["min", "max"]
    """Whether the monitor is minimized or maximized."""
    submit: Mapping[str, Json] = field(default_factory=dict)
    """Non-default options for submitting the runs."""

    def write(self, batch: Batch) -> None:
        """Store the settings in a batch."""
        search_dir(batch).mkdir(exist_ok=True)
        SETTINGS_FORMAT.write(search_dir(batch) / SETTINGS_FILENAME, self)


SETTINGS_FORMAT = FileFormat("search.json", SearchSettings)


@dataclass(frozen=True)
class StartOnly:
    """Rule: the field can be given when a search starts, not when it is resumed."""


class SearchOptions(SubmitOptions):
    """Options of a hyperparameter search."""

    configuration: Annotated[str | None, StartOnly()] = None
    """Configuration of the plan whose `random` values are searched; required if several have such values."""

    trials: int | None = None
    """Number of runs. Default: `draws` of the configuration."""

    prune: Annotated[bool, StartOnly()] = True
    """Stop runs early that are worse than most others were at the same epoch."""

    description: Annotated[str | None, StartOnly()] = None
    """Purpose of the search; required here or in the plan."""

    name: Annotated[str | None, StartOnly()] = None
    """Name of the batch. Default: the name of the plan file."""

    folder: Annotated[Path, StartOnly()] = Path("batches")
    """Parent directory of batches; a batch is written to FOLDER/NAME/version_1, version_2 and so on."""

    def check(self) -> None:
        super().check()
        for name in ("dry_run", "wait"):
            self.require(not getattr(self, name), name, "not available: a search always runs and waits for its runs")
        is_known = not self.launcher.capabilities.limits or self.explicit_limits is not None
        self.require(
            is_known, "launcher", "requires --time and --mem in a search; otherwise every run would be calibrated"
        )
        self.require(self.trials is None or self.trials >= 1, "trials", "must be at least 1")


def encode_options(options: SubmitOptions) -> dict[str, Json]:
    """Return the non-default options for submitting runs, as JSON."""
    types = field_types(SubmitOptions)
    return {name: encode_value(types[name], value) for name, value in options.non_default_values().items()}


def search_dir(batch: Batch) -> Path:
    """Return the directory of the search of a batch."""
    return batch.path / "search"


def is_search(batch: Batch) -> bool:
    """Return whether a batch is a search."""
    file = search_dir(batch) / SETTINGS_FILENAME
    return os.path.lexists(file)


def is_search_running(batch: Batch) -> bool:
    """Return whether a process is running the search of a batch."""
    return is_locked(search_dir(batch) / LOCK_FILENAME)


def resume_command(batch: Batch) -> str:
    """Return the command that resumes the runs of a batch."""
    return f"experiments {'search' if is_search(batch) else 'submit'} {shlex.quote(str(batch.path))}"


def read_search_settings(batch: Batch) -> SearchSettings:
    """Return the settings of a search.

    Raises:
        UsageError: if the batch is not a search, or its settings are damaged.
    """
    if not is_search(batch):
        raise UsageError(f"{batch.path}: not a search; start one with `experiments search PLAN`")
    return SETTINGS_FORMAT.read(search_dir(batch) / SETTINGS_FILENAME)


def read_submit_options(batch: Batch, settings: SearchSettings) -> SubmitOptions:
    """Return the options for submitting the runs of a search.

    Raises:
        UsageError: if a value is invalid; it names the file and the key.
    """
    file = search_dir(batch) / SETTINGS_FILENAME
    try:
        tree = apply_settings(
            ResolvedParams(SubmitOptions()), settings_from_file(dict(settings.submit), f"{file}: submit")
        ).tree
        return cast(SubmitOptions, validate_params(tree))
    except UsageError as error:
        problem = str(error)
        raise UsageError(problem if problem.startswith(str(file)) else f"{file}: submit: {problem}") from error
