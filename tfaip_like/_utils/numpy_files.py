"""Files of NumPy (.npz, .npy), opened without pickle and with reasons for people where they cannot be read."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError, short_error_message

_BEGINNINGS = (b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")
"""Other files NumPy would take for pickles."""
UNREADABLE = (OSError, ValueError, LookupError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises for files that are damaged or of another kind."""


def load_numpy(path: Path, mmap_mode: Literal["r"] | None = None) -> Any:
    """Return what `np.load` returns, without pickle.

    Raises:
        ValueError: for a file of another kind, which NumPy would take for a pickle.
    """
    with path.open("rb") as file:
        if not file.read(6).startswith(_BEGINNINGS):
            raise ValueError("it is cut off, or of another kind")
    return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)


def read_npz(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays in an .npz file by their names.

    Raises:
        UsageError: if it is not a readable .npz file; names it.
    """
    try:
        saved = load_numpy(path)
        if isinstance(saved, np.ndarray):
            raise ValueError("it holds a single array without a name, as .npy files do")
        with saved:
            return {name: saved[name] for name in saved.files}
    except UNREADABLE as error:
        raise UsageError(f"{path}: is not a readable .npz file: {reason_of_numpy(error)}") from error


def reason_of_numpy(error: BaseException) -> str:
    """Return why a file of NumPy cannot be read, without advice to run code from it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if isinstance(error, ValueError) and "pickle" in str(error):
        return "it holds Python objects, not numbers"
    return "it is cut off or damaged" if "not a zip file" in str(error) else short_error_message(error)
