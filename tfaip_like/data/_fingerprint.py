"""Fingerprints of data: enough to notice that a source or a file has changed, without reading all of it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfaip_like._runs.run_files import DataFingerprint, FileFingerprint

MAX_SAMPLES = 16
"""Samples of a source that are hashed."""
MAX_FILE_BYTES = 1 << 20
"""Bytes at the begin and at the end of a file that are hashed."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def fingerprint_source(source: Any) -> DataFingerprint:
    """Return the fingerprint of a source of samples.

    Up to 16 samples at equal distances are read, of a source that reads blocks two. The files that they name are part
    of them, by name and content, so a dataset in another folder has the same fingerprint. A source that returns other
    values each time, because it draws random numbers, has no hash.

    Args:
        source: source of samples, or of tuples.

    Example:
        >>> one, other = fingerprint_source([1, 2, 3]), fingerprint_source([1, 2, 4])
        >>> one["samples"], one["hashed_samples"], one["sha256"] == other["sha256"]
        (3, 3, False)
    """
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        return {"samples": None, "hashed_samples": 0, "bytes": 0, "sha256": ""}
    count = len(source)
    most = min(count, 2 if hasattr(source, "block_ends") else MAX_SAMPLES)
    indices = sorted({int(index) for index in np.linspace(0, count - 1, most)}) if count else []
    sha256, size = _hash_samples(source, indices)
    if sha256 != _hash_samples(source, indices)[0]:  # random
        indices, sha256 = [], ""
    return {"samples": count, "hashed_samples": len(indices), "bytes": size, "sha256": sha256}


def fingerprint_file(path: Path) -> FileFingerprint:
    """Return the fingerprint of a file.

    Raises:
        OSError: if it cannot be read.
    """
    hashed = hashlib.sha256()
    size = _hash_file(path, hashed)
    return {"bytes": size, "sha256": hashed.hexdigest()}


def _hash_samples(source: Any, indices: Sequence[int]) -> tuple[str, int]:
    """Return the hash and the size of samples."""
    hashed, size = hashlib.sha256(f"{len(source)} samples".encode()), 0
    for index in indices:
        try:
            for name, value in _iter_values(source[index]):
                hashed.update(f"\n{name}:".encode("utf-8", "surrogateescape"))
                size += _hash_value(value, hashed)
        except Exception as error:  # of user code, or a damaged file: skipped or reported when it is trained on
            hashed.update(f"sample {index}: {type(error).__name__}".encode())
    return hashed.hexdigest(), size


def _iter_values(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values in a sample, a mapping or a tuple, with their place."""
    parts = {part: getattr(value, part) for part in ("inputs", "targets", "meta") if hasattr(value, part)}
    if isinstance(value, Mapping):
        parts = {str(key): part for key, part in value.items()}
    elif isinstance(value, (list, tuple)) and not all(isinstance(part, (int, float)) for part in value):
        parts = {str(number): part for number, part in enumerate(value)}
    if not parts and not isinstance(value, Mapping):
        yield name, value
    for key in parts:
        yield from _iter_values(parts[key], f"{name}/{key}")


def _hash_value(value: Any, hashed: _Hash) -> int:
    if isinstance(value, (str, Path)) and (path := _existing_file(value)) is not None:
        hashed.update(path.name.encode("utf-8", "surrogateescape"))
        return _hash_file(path, hashed)
    if isinstance(value, bytes):
        content = value
    elif isinstance(value, (str, Path)):
        content = str(value).encode("utf-8", "surrogateescape")
    else:
        try:
            array = np.asarray(value)
        except Exception:  # of any class
            array = np.asarray(type(value).__qualname__)
        if array.dtype.hasobject:  # its representation may contain an address
            array = np.asarray(type(value).__qualname__)
        hashed.update(f"{array.dtype}{array.shape}".encode())
        content = array.tobytes()
    hashed.update(content)
    return len(content)


def _existing_file(value: str | Path) -> Path | None:
    try:
        path = Path(value)
        return path if path.is_file() else None
    except (OSError, ValueError):  # too long, or with a null character: not a path
        return None


def _hash_file(path: Path, hashed: _Hash) -> int:
    """Hash size, begin and end of a file; return its size."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        hashed.update(f"{size} bytes".encode() + file.read(MAX_FILE_BYTES))
        if size > MAX_FILE_BYTES:
            file.seek(max(MAX_FILE_BYTES, size - MAX_FILE_BYTES))
            hashed.update(file.read(MAX_FILE_BYTES))
    return size
