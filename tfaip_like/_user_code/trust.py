"""Which of the user's code may be imported because a file names it.

The rule: code is imported from where Python finds modules, from the current directory, and from a path that somebody
typed. What lies in the directory of a run, an export or a batch may have been sent by somebody else. It is imported
only if this user trained with it or generated it, which is recorded outside of that directory, or with `--trust_code`.

The record is `trusted_code.json` in the user's configuration directory: the path and the SHA-256 of each file.
"""

from __future__ import annotations

import hashlib
import importlib.machinery
import logging
import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import file_lock
from tfaip_like._utils.json_files import read_json, write_json
from tfaip_like._utils.typed_json import decode

logger = logging.getLogger(__name__)

TRUST_FLAG = "--trust_code"
TRUST_HELP = f"{TRUST_FLAG}       run code and graphs of the named directories, even if others made them"

_RUN_DIR_MARKERS = (
    "trainer_params.json",
    "batch.json",
    "scenario_params.json",
    "pipeline.json",
    "experts.json",
    *(f"{export}/{file}" for export in ("best", "export") for file in ("scenario_params.json", "pipeline.json")),
)
"""What makes a directory that of a run, an export, a batch or several experts."""

_allows_untrusted_code: ContextVar[bool] = ContextVar("_allows_untrusted_code", default=False)


class UntrustedCodeError(UsageError):
    """Code that lies where others may have put it."""


@contextmanager
def allow_untrusted_code(is_trusting: bool = True) -> Iterator[None]:
    """Import code from anywhere for the length of the block: somebody has said that it may be trusted."""
    token = _allows_untrusted_code.set(is_trusting or _allows_untrusted_code.get())
    try:
        yield
    finally:
        _allows_untrusted_code.reset(token)


def allows_untrusted_code() -> bool:
    """Return whether code may be imported from anywhere."""
    return _allows_untrusted_code.get()


def check_trusted(file: Path) -> None:
    """Raise `UntrustedCodeError` for a file of code that lies in a directory of a run and is not recorded."""
    if _allows_untrusted_code.get() or is_installed(str(file)):
        return
    directory = _enclosing_run_dir(file)
    if directory is not None and not is_recorded(file) and not _is_moved_copy(file):
        raise UntrustedCodeError(
            f"{file}: lies in a run, export or batch ({directory}) that you have not trained or generated here, so it "
            f"is not imported.\nIf you trust whoever made it, add {TRUST_FLAG}."
        )


def is_directory_trusted(folder: Path) -> bool:
    """Return whether all code below a folder of a batch may be imported: recorded there, or before it was moved."""
    return _allows_untrusted_code.get() or {_digest(file) for file in find_code_files(folder)} <= set(
        _known_digests().values()
    )


@contextmanager
def guarded_imports() -> Iterator[None]:
    """Apply the rule to all modules that are imported in the block, also to those that others import."""
    guard = _TrustFinder()
    place = next((i for i, finder in enumerate(sys.meta_path) if finder is importlib.machinery.PathFinder), 0)
    sys.meta_path.insert(place, guard)
    try:
        yield
    finally:
        sys.meta_path.remove(guard)


class _TrustFinder(MetaPathFinder):
    """Finds modules as Python does, and refuses those that must not be imported."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None or not spec.has_location:  # a folder without __init__.py runs nothing
            return spec
        file = Path(os.path.abspath(spec.origin))
        check_trusted(file)
        if isinstance(spec.loader, importlib.machinery.SourceFileLoader) and _enclosing_run_dir(file) is not None:
            spec.loader = _SourceOnlyLoader(fullname, spec.origin)
        return spec


class _SourceOnlyLoader(importlib.machinery.SourceFileLoader):
    """Imports the source that was checked, never compiled code beside it."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def is_installed(file: str | None) -> bool:
    """Return whether a file, as the origin of a module, is part of Python, an installed package or this one."""
    return is_part_of_python(file) or any(_is_below(str(file), root) for root in _installation_dirs())


def is_part_of_python(file: str | None) -> bool:
    """Return whether a file, as the origin of a module, is part of Python; many of its modules have none."""
    if file is None or not os.path.isabs(file):  # "built-in", "frozen"; a folder without __init__.py
        return file is not None
    paths = sysconfig.get_paths()
    is_standard = any(_is_below(file, paths[name]) for name in ("stdlib", "platstdlib"))
    return is_standard and not any(_is_below(file, root) for root in _installation_dirs())


@cache
def _installation_dirs() -> frozenset[str]:
    paths = sysconfig.get_paths()
    ours = str(Path(__file__).parent.parent)
    return frozenset((paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages(), ours))


def _is_below(file: str, root: str) -> bool:
    return any(Path(file).is_relative_to(place) for place in {root, os.path.realpath(root)})


def _enclosing_run_dir(file: Path) -> Path | None:
    """Return the innermost directory of a run, an export or a batch that a file lies in, by its name or its links."""
    for path in (Path(os.path.abspath(file)), file.resolve()):
        for folder in path.parents:
            if any(os.path.exists(folder / marker) for marker in _RUN_DIR_MARKERS):
                return folder
    return None


# The record.


def trust_record_path() -> Path:
    """Return where trusted code is recorded: in the user's configuration directory."""
    configuration = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(configuration, "tfaip_like", "trusted_code.json")


def record_trusted_code(files: Iterable[Path]) -> None:
    """Record files of code as they are now: this user runs them, or has just made copies of them.

    A training does not fail because of it: without a record, `--trust_code` says the same.
    """
    now = {key: digest for file in files for key in [_key(file)] if (digest := _digest(file))}
    file = trust_record_path()
    try:
        if now.items() <= _read_trust_record().items():  # the usual case: no lock for 1,000 runs of a batch
            return
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with file_lock(file.with_name(".lock")):
            write_json(file, {**_read_trust_record(), **now}, indent=0)
    except OSError as error:
        logger.debug("%s cannot be written: %s", file, error)
    except UsageError as error:
        logger.warning("The code of this run is not recorded as yours: %s", error)


def is_recorded(file: Path, is_unchanged: bool = True) -> bool:
    """Return whether a file was recorded under its path.

    Args:
        is_unchanged: only with the contents that it has now.
    """
    digest = _known_digests().get(_key(file))
    return digest is not None and (not is_unchanged or digest == _digest(file))


def _is_moved_copy(file: Path) -> bool:
    """Return whether a file and all code that it may import from beside it were recorded, wherever that was.

    A batch can be moved. Of code that only resembles it, no module may be another one.
    """
    known = set(_known_digests().values())
    if _digest(file) not in known:
        return False
    return all(_digest(path) in known for path in find_code_files(package_root(file)))


def find_code_files(folder: Path) -> list[Path]:
    """Return the files below a folder that Python imports."""
    suffixes = tuple(importlib.machinery.all_suffixes())
    return [path for path in sorted(folder.rglob("*")) if path.name.endswith(suffixes) and not _is_bytecode(path)]


def _is_bytecode(path: Path) -> bool:
    return path.parent.name == "__pycache__"  # never read: see `_SourceOnlyLoader`


def package_root(file: Path) -> Path:
    """Return the folder from which the module in a file is imported."""
    root = file.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return root


def check_script_trusted(file: Path) -> None:
    """Raise `UntrustedCodeError` for a script of a batch that this user has not generated; they may have edited it."""
    if (
        _allows_untrusted_code.get()
        or is_recorded(file, is_unchanged=False)
        or _digest(file) in _known_digests().values()
    ):
        return
    raise UntrustedCodeError(
        f"{file}: belongs to a batch that you have not generated here, so it is not run.\n"
        f"If you trust whoever made it, add {TRUST_FLAG}."
    )


def is_import_allowed(file: Path) -> bool:
    """Return whether a scenario file that a run names may be imported: this user has trained with it.

    Their own file may have been edited since; in a directory of a run nothing may have changed.
    """
    if _allows_untrusted_code.get():
        return True
    return is_recorded(file, is_unchanged=_enclosing_run_dir(file) is not None)


def _key(file: Path) -> str:
    return str(file.resolve())


def _digest(file: Path) -> str | None:
    with suppress(OSError):
        return hashlib.sha256(file.read_bytes()).hexdigest()
    return None


def _read_trust_record() -> dict[str, str]:
    """Return the digests of recorded files by their paths.

    Raises:
        UsageError: if the record is damaged; it names the file and the key or line.
    """
    file = trust_record_path()
    if not file.exists() and not file.is_symlink():
        return {}
    return decode(dict[str, str], read_json(file), str(file))


def _known_digests() -> dict[str, str]:
    """Return the digests of recorded files by their paths; none, with a warning, if the record is damaged."""
    try:
        return _read_trust_record()
    except UsageError as error:
        _warn_damaged_record(str(error))
        return {}


@cache  # asked for each module that is imported
def _warn_damaged_record(problem: str) -> None:
    logger.warning("Code in run directories is not trusted: %s. Fix or delete this file.", problem)
