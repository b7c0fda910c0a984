"""How a batch is searched, kept with it in `search/search.json`."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, cast

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import is_locked
from tfaip_like._utils.json_files import Json, write_json
from tfaip_like._utils.typed_json import AtLeast, Count, read_typed_json
from tfaip_like.experiments._batches.batch import Batch
from tfaip_like.experiments._submit import SubmitOptions
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file
from tfaip_like.params._tree import validate_params

SETTINGS_FILENAME = "search.json"
LOCK_FILENAME = ".lock"


@dataclass(frozen=True)
class SearchSettings:
    """How a batch is searched; kept with it."""

    configuration: str
    trials: Annotated[int, AtLeast(1)]
    seed: Count
    prune: bool
    mode: Literal["min", "max"]
    """Whether small or large values are good."""
    submit: Mapping[str, Json] = field(default_factory=dict)
    """How its runs are submitted, where that is not the default."""

    def write(self, batch: Batch) -> None:
        """Keeps them with the batch."""
        search_dir(batch).mkdir(exist_ok=True)
        write_json(search_dir(batch) / SETTINGS_FILENAME, dataclasses.asdict(self))


def search_dir(batch: Batch) -> Path:
    """Where a batch keeps its search."""
    return batch.path / "search"


def is_search(batch: Batch) -> bool:
    """Return whether the runs of a batch are chosen by a search."""
    file = search_dir(batch) / SETTINGS_FILENAME
    return file.exists() or file.is_symlink()


def is_search_running(batch: Batch) -> bool:
    """Return whether a process is searching in a batch."""
    return is_locked(search_dir(batch) / LOCK_FILENAME)


def resume_command(batch: Batch) -> str:
    """Return the command that continues the runs of a batch."""
    return f"experiments {'search' if is_search(batch) else 'submit'} {shlex.quote(str(batch.path))}"


def read_search_settings(batch: Batch) -> SearchSettings:
    """Return how a batch is searched.

    Raises:
        UsageError: if it is not, or its settings are damaged.
    """
    if not is_search(batch):
        raise UsageError(f"{batch.path}: is not a search; `experiments search PLAN` starts one")
    return read_typed_json(SearchSettings, search_dir(batch) / SETTINGS_FILENAME)


def read_submit_options(batch: Batch, settings: SearchSettings) -> SubmitOptions:
    """Return how the runs of a search are submitted.

    Raises:
        UsageError: if a value does not fit; it names the file and the key.
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
