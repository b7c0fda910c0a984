"""Snapshot of the scenario's code, which keeps later edits from affecting queued runs."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from tfaip_like._runs.batch_layout import BATCH_INDEX
from tfaip_like._runs.git import GIT_STATE_FILENAME, GIT_STATE_FORMAT, GitState, class_source_path, read_git_state
from tfaip_like._runs.output_dir import RUN
from tfaip_like._utils.code_origin import is_user_file
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 1_000_000
"""Size limit of a file; larger files are considered data and are not copied."""
MAX_TOTAL_BYTES = 100_000_000
"""Size limit of the whole snapshot."""
OUTPUT_DIR_MARKERS = (RUN, BATCH_INDEX)
"""Files that mark a directory of results, which is not copied."""


def copy_code(scenario: type[Scenario], target: Path) -> GitState:
    """Copy the user's imported modules, with the contents of their packages and the modules next to them.

    Args:
        scenario: class whose code is copied; it is imported already.
        target: directory of the snapshot; created if it does not exist.

    Returns:
        The git state of the scenario's repository, which is stored in the snapshot too.

    Raises:
        UsageError: if the copied files exceed `MAX_TOTAL_BYTES`.
    """
    target.mkdir(exist_ok=True)
    copier = _CodeCopier()
    for source in _find_user_code():
        copier.add(source, target / source.name)
    if copier.skipped:
        paths = truncate_list([str(path) for path in copier.skipped])
        logger.warning("large files not copied with the code: %s", paths)
    scenario_file = class_source_path(scenario)
    state = read_git_state(scenario_file) if scenario_file else GitState()
    GIT_STATE_FORMAT.write(target / GIT_STATE_FILENAME, state, indent=None)
    return state


def _find_user_code() -> list[Path]:
    """Return the top-level files and packages of the user's imported modules."""
    paths: dict[Path, None] = {}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and module.__name__ != "__main__" and is_user_file(file):
            paths |= dict.fromkeys(_iter_module_paths(module))
    return list(paths)


def _iter_module_paths(module: ModuleType) -> Iterator[Path]:
    top = sys.modules.get(module.__name__.split(".")[0], module)
    if hasattr(top, "__path__"):
        yield from (Path(folder).resolve() for folder in top.__path__)
    elif top.__file__:
        file = Path(top.__file__).resolve()
        yield file
        yield from (sibling for sibling in sorted(file.parent.iterdir()) if _is_import_target(sibling))


def _is_import_target(path: Path) -> bool:
    """Return whether `import NAME` resolves to this file or package."""
    if not (path.suffix == ".py" or (path / "__init__.py").is_file()) or not path.stem.isidentifier():
        return False
    try:
        spec = importlib.util.find_spec(path.stem)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin in (str(path), str(path / "__init__.py"))


@dataclass
class _CodeCopier:
    """Copier of code that limits the total size."""

    size: int = 0
    """Bytes copied so far."""
    skipped: list[Path] = field(default_factory=list)

    def add(self, source: Path, target: Path) -> None:
        """Copy a file, or a directory without results, caches and links."""
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
                f"{source.parent}: the code of the scenario, which is copied into the batch, exceeds "
                f"{MAX_TOTAL_BYTES // 1_000_000} MB; move data to another directory"
            )
        shutil.copy2(source, target)


def _is_code_candidate(path: Path) -> bool:
    is_linked_dir = path.is_symlink() and path.is_dir()
    is_hidden = path.name.startswith(".") or path.name == "__pycache__"
    return not is_hidden and not is_linked_dir and (path.is_file() or path.is_dir())
