"""The scenario's code as it is now, copied, so that later changes do not reach runs that wait."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from tfaip_like._runs.git import COPIED, GitState, git_state, source_file
from tfaip_like._utils.code_origin import is_users
from tfaip_like._utils.errors import UsageError, some
from tfaip_like._utils.json_files import write_json
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

LARGEST_FILE = 1_000_000
"""Bytes; larger files among the code are data, which stay where they are."""
LARGEST_COPY = 100_000_000
"""Bytes of all that lies among the code."""
NOT_CODE = ("run.json", "batch.json")
"""A folder with one of these is left out."""


def copy_code(scenario: type[Scenario], target: Path) -> GitState:
    """Copies the user's modules that are imported, with all that lies in their packages or beside them.

    Returns:
        The state of the scenario's repository, which the copy knows too.

    Raises:
        UsageError: when so much lies among the code that it must be data.
    """
    target.mkdir(exist_ok=True)
    copy = _Copy()
    for source in _places():
        copy.add(source, target / source.name)
    if copy.left_out:
        logger.warning("not copied with the code, because it is large: %s", some([str(path) for path in copy.left_out]))
    source_of_scenario = source_file(scenario)
    state = git_state(source_of_scenario) if source_of_scenario else GitState()
    write_json(target / COPIED, dataclasses.asdict(state), indent=None)
    return state


def _places() -> list[Path]:
    """Files and folders of the user that can be imported by their names."""
    found: dict[Path, None] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and module.__name__ != "__main__" and is_users(file):
            found |= dict.fromkeys(_places_of(module))
    return list(found)


def _places_of(module: ModuleType) -> Iterator[Path]:
    top = sys.modules.get(module.__name__.split(".")[0], module)
    if hasattr(top, "__path__"):
        yield from (Path(folder).resolve() for folder in top.__path__)
    elif top.__file__:
        file = Path(top.__file__).resolve()
        yield file
        yield from (beside for beside in sorted(file.parent.iterdir()) if _is_imported_from(beside))


def _is_imported_from(path: Path) -> bool:
    """Return whether `import NAME` would read just this file or package; others never take part."""
    if not (path.suffix == ".py" or (path / "__init__.py").is_file()) or not path.stem.isidentifier():
        return False
    try:
        spec = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin in (str(path), str(path / "__init__.py"))


@dataclass
class _Copy:
    """What was copied so far."""

    size: int = 0
    left_out: list[Path] = field(default_factory=list)

    def add(self, source: Path, target: Path) -> None:
        """Copies a file, or a folder without what is no code."""
        if source.is_file():
            self._add_file(source, target)
        elif not any((source / name).exists() for name in NOT_CODE):
            target.mkdir(exist_ok=True)
            for item in source.iterdir():
                if _may_be_code(item):
                    self.add(item, target / item.name)

    def _add_file(self, source: Path, target: Path) -> None:
        size = source.stat().st_size
        if size > LARGEST_FILE:
            self.left_out.append(source)
            return
        self.size += size
        if self.size > LARGEST_COPY:
            raise UsageError(
                f"{source.parent}: more than {LARGEST_COPY // 1_000_000} MB lie among the code of the scenario, which "
                "is copied with the batch; move data to another folder"
            )
        shutil.copy2(source, target)


def _may_be_code(path: Path) -> bool:
    is_linked_folder = path.is_symlink() and path.is_dir()
    hidden = path.name.startswith(".") or path.name == "__pycache__"
    return not hidden and not is_linked_folder and (path.is_file() or path.is_dir())
