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

from tfaip_like._runs.git import GIT_STATE_FILENAME, GitState, class_source_path, read_git_state
from tfaip_like._utils.code_origin import is_user_file
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like._utils.json_files import write_json
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1_000_000
"""Bytes; larger files among the code are data, which stay where they are."""
MAX_TOTAL_BYTES = 100_000_000
"""Bytes of all that lies among the code."""
OUTPUT_DIR_MARKERS = ("run.json", "batch.json")
"""A folder with one of these is left out."""


def copy_code(scenario: type[Scenario], target: Path) -> GitState:
    """Copies the user's modules that are imported, with all that lies in their packages or beside them.

    Returns:
        The state of the scenario's repository, which the copy knows too.

    Raises:
        UsageError: when so much lies among the code that it must be data.
    """
    target.mkdir(exist_ok=True)
    copy = _CodeCopier()
    for source in _find_user_code():
        copy.add(source, target / source.name)
    if copy.skipped:
        logger.warning(
            "not copied with the code, because it is large: %s", truncate_list([str(path) for path in copy.skipped])
        )
    source_of_scenario = class_source_path(scenario)
    state = read_git_state(source_of_scenario) if source_of_scenario else GitState()
    write_json(target / GIT_STATE_FILENAME, dataclasses.asdict(state), indent=None)
    return state


def _find_user_code() -> list[Path]:
    """Files and folders of the user that can be imported by their names."""
    found: dict[Path, None] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and module.__name__ != "__main__" and is_user_file(file):
            found |= dict.fromkeys(_iter_module_paths(module))
    return list(found)


def _iter_module_paths(module: ModuleType) -> Iterator[Path]:
    top = sys.modules.get(module.__name__.split(".")[0], module)
    if hasattr(top, "__path__"):
        yield from (Path(folder).resolve() for folder in top.__path__)
    elif top.__file__:
        file = Path(top.__file__).resolve()
        yield file
        yield from (beside for beside in sorted(file.parent.iterdir()) if _is_import_target(beside))


def _is_import_target(path: Path) -> bool:
    """Return whether `import NAME` would read just this file or package; others never take part."""
    if not (path.suffix == ".py" or (path / "__init__.py").is_file()) or not path.stem.isidentifier():
        return False
    try:
        spec = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin in (str(path), str(path / "__init__.py"))


@dataclass
class _CodeCopier:
    """What was copied so far."""

    size: int = 0
    skipped: list[Path] = field(default_factory=list)

    def add(self, source: Path, target: Path) -> None:
        """Copies a file, or a folder without what is no code."""
        if source.is_file():
            self._add_file(source, target)
        elif not any((source / name).exists() for name in OUTPUT_DIR_MARKERS):
            target.mkdir(exist_ok=True)
            for item in source.iterdir():
                if _is_code_candidate(item):
                    self.add(item, target / item.name)

    def _add_file(self, source: Path, target: Path) -> None:
        size = source.stat().st_size
        if size > MAX_FILE_BYTES:
            self.skipped.append(source)
            return
        self.size += size
        if self.size > MAX_TOTAL_BYTES:
            raise UsageError(
                f"{source.parent}: more than {MAX_TOTAL_BYTES // 1_000_000} MB lie among the code of the "
                "scenario, which "
                "is copied with the batch; move data to another folder"
            )
        shutil.copy2(source, target)


def _is_code_candidate(path: Path) -> bool:
    is_linked_folder = path.is_symlink() and path.is_dir()
    hidden = path.name.startswith(".") or path.name == "__pycache__"
    return not hidden and not is_linked_folder and (path.is_file() or path.is_dir())
