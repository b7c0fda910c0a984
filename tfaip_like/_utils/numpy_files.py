"""Reading of NumPy files (.npz, .npy) without pickle, with readable error messages."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, short_error_message

_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")
"""Magic numbers of NumPy files; NumPy treats all other files as pickles."""
UNREADABLE = (OSError, ValueError, LookupError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
"""Exceptions that NumPy raises for damaged files and other formats."""


def load_numpy(path: Path, mmap_mode: Literal["r"] | None = None) -> Any:
    """Load a NumPy file with `np.load`, without pickle.

    Args:
        path: path of the file.
        mmap_mode: "r" maps a .npy file into memory instead of reading it.

    Raises:
        ValueError: if the file is not a NumPy file, which NumPy would treat as a pickle.
    """
    with path.open("rb") as file:
        if not file.read(6).startswith(_BEGINNINGS):
            raise ValueError("truncated file or unsupported format")
    return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays in an .npz file by name.

    Raises:
        UsageError: if it is not a readable .npz file; names the file.
    """
    try:
        saved = load_numpy(path)
        if isinstance(saved, np.ndarray):
            raise ValueError("it is an .npy file with a single unnamed array")
        with saved:
            return {name: saved[name] for name in saved.files}
    except UNREADABLE as error:
        raise UsageError(f"{path}: cannot be read as .npz: {reason_of_numpy(error)}") from error


def reason_of_numpy(error: BaseException) -> str:
    """Return why a NumPy file cannot be read, without NumPy's advice to allow pickle."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ValueError) and "pickle" in str(error):
        return "it contains Python objects instead of numbers"
    return "truncated or damaged file" if "not a zip file" in str(error) else short_error_message(error)
