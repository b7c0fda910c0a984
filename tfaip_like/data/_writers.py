"""Writers of prediction files: base class, JSON lines and NumPy archives."""

from __future__ import annotations

import abc
import json
import math
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.escaping import escape_json
from tfaip_like._utils.files import replace_file
from tfaip_like._utils.remote_paths import require_local
from tfaip_like._utils.temp_dirs import locked_dir
from tfaip_like.data._sample import Sample
from tfaip_like.params import Params

INPUTS_PREFIX, TARGETS_PREFIX, INDEX_KEY = "inputs/", "targets/", "index"
"""Name prefixes of inputs and targets in a file, and the name of the index array."""
COPY_CHUNK_BYTES = 2**22

WriteSample: TypeAlias = Callable[[Sample], None]
"""Function that writes one sample."""


class Writer(Params, abc.ABC):
    """Base class for writers of predicted samples.

    Example:
        >>> from contextlib import contextmanager
        >>> class TextLines(Writer):
        ...     @contextmanager
        ...     def open(self, file):
        ...         with file.open("w") as stream:
        ...             yield lambda sample: print(sample.outputs["text"], file=stream)
    """

    @abc.abstractmethod
    def open(self, file: Path) -> AbstractContextManager[WriteSample]:
        """Return a context manager that opens a file and yields a function that writes one sample.

        The function is called for each sample, in order; the number of samples is not limited.

        Args:
            file: path to create; a temporary file that is renamed to the requested name when it is closed.
        """


class JsonLines(Writer):
    """JSON Lines writer: one object per sample with its `outputs`, and its `targets` and `meta` if not empty.

    Example:
        >>> JsonLines().write_to(sys.stdout)(Sample({}, outputs={"class": 3}))
        {"outputs": {"class": 3}}
    """

    inputs: bool = False
    """Also write the inputs of each sample, for evaluators that need them."""

    @contextmanager
    def open(self, file: Path) -> Iterator[WriteSample]:
        with open(file, "w", encoding="utf-8") as stream:
            yield self.write_to(stream)

    def write_to(self, stream: IO[str]) -> WriteSample:
        """Return a function that writes a sample to an open stream and flushes it."""

        def write(sample: Sample) -> None:
            stream.write(escape_json(json.dumps(_as_json(sample, self.inputs), ensure_ascii=False)) + "\n")
            stream.flush()

        return write


class Npz(Writer):
    """NumPy archive writer: arrays with one row per sample.

    An output is stored as `NAME`, a target as `targets/NAME`, the position in the source as `index`. All samples must
    have the same outputs, each of one shape and dtype.

    Example:
        >>> with Npz().open(Path("predictions.npz")) as write:  # doctest: +SKIP
        ...     write(Sample({}, outputs={"class": 3}))
    """

    inputs: bool = False
    """Also write the inputs of each sample, as `inputs/NAME`."""

    @contextmanager
    def open(self, file: Path) -> Iterator[WriteSample]:
        with locked_dir(file.parent, ".npz-") as temp_dir:
            columns: dict[str, _Column] = {}
            count = 0

            def write(sample: Sample) -> None:
                nonlocal count
                count += 1
                for name, value in _to_arrays(sample, self.inputs).items():
                    if name not in columns:
                        columns[name] = _Column(name, np.asarray(value), Path(temp_dir, str(len(columns))))
                    columns[name].add(np.asarray(value))

            yield write
            for column in columns.values():
                column.check(count)
            with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
                for column in columns.values():
                    column.write_to(archive)


class _Column:
    """Rows of one array, collected in a temporary file because they may not fit into memory."""

    def __init__(self, name: str, first: npt.NDArray[Any], file: Path):
        if first.dtype.kind not in "fiub":
            raise UsageError(f"output {name!r} has dtype {first.dtype}, not numbers; write JSON lines (FILE.jsonl)")
        self.name = name
        self.shape, self.dtype = first.shape, first.dtype
        self.count = 0
        self._file = file
        self._stream = open(file, "wb")  # noqa: SIM115

    def add(self, row: npt.NDArray[Any]) -> None:
        if row.shape != self.shape:
            raise UsageError(
                f"output {self.name!r} has shape {self.shape} in one sample but {row.shape} in another, which an array "
                "cannot hold; write JSON lines (FILE.jsonl)"
            )
        if not np.can_cast(row.dtype, self.dtype, "same_kind"):
            raise UsageError(
                f"output {self.name!r} has dtype {self.dtype} in the first sample but {row.dtype} in another; use one "
                "dtype, or write JSON lines (FILE.jsonl)"
            )
        self._stream.write(row.astype(self.dtype, copy=False).tobytes())
        self.count += 1

    def check(self, num_samples: int) -> None:
        """Raise `UsageError` unless every sample has a row."""
        if self.count != num_samples:
            raise UsageError(
                f"output {self.name!r} is missing in {num_samples - self.count} of {num_samples} samples; "
                "write JSON lines (FILE.jsonl)"
            )

    def write_to(self, archive: zipfile.ZipFile) -> None:
        self._stream.close()
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.count, *self.shape),
        }
        with archive.open(f"{self.name}.npy", "w", force_zip64=True) as member, open(self._file, "rb") as rows:
            np.lib.format.write_array_header_1_0(member, header)
            while chunk := rows.read(COPY_CHUNK_BYTES):
                member.write(chunk)


WRITERS: Mapping[str, JsonLines | Npz] = {".jsonl": JsonLines(), ".npz": Npz()}


@contextmanager
def open_writer(file: Path | None, writer: Writer | None, flag: str) -> Iterator[WriteSample]:
    """Open a writer; the file is replaced atomically when the block ends without an error.

    After an error, the samples written so far are kept as `FILE.part`.

    Args:
        file: file to write; None for standard output.
        writer: writer to use; by default chosen by the file name extension.
        flag: flag that named the file, for error messages.

    Raises:
        UsageError: if no writer supports the file name extension, or the file cannot be written.
    """
    if file is None:
        if writer is not None and not isinstance(writer, JsonLines):
            raise UsageError(f"--writer {type(writer).__name__} needs a file: {flag} FILE")
        yield (writer or JsonLines()).write_to(sys.stdout)
        return
    require_local(file, flag)
    writer = writer or writer_for(file, flag)
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch()  # fail before the first sample is predicted if the file cannot be written
    except OSError as error:
        raise UsageError(f"{flag} {file}: cannot be written: {error.strerror}") from error
    try:
        with writer.open(part) as write:
            yield write
    except BaseException as error:
        if part.exists() and part.stat().st_size:
            error.add_note(f"Samples written before the error are in {part}.")
        raise
    replace_file(file, part)


def writer_for(file: Path, flag: str) -> JsonLines | Npz:
    """Return the writer for a file name extension."""
    if file.suffix not in WRITERS:
        raise UsageError(f"{flag} {file}: must end with one of {', '.join(WRITERS)}")
    return WRITERS[file.suffix]


def _to_arrays(sample: Sample, with_inputs: bool) -> dict[str, Any]:
    index = {INDEX_KEY: sample.meta[INDEX_KEY]} if INDEX_KEY in sample.meta else {}
    groups = {TARGETS_PREFIX: sample.targets, INPUTS_PREFIX: sample.inputs if with_inputs else {}}
    named = {f"{prefix}{name}": value for prefix, values in groups.items() for name, value in values.items()}
    return {**index, **sample.outputs, **named}


def _as_json(sample: Sample, with_inputs: bool) -> dict[str, Any]:
    groups = {"outputs": sample.outputs, "targets": sample.targets, "meta": sample.meta}
    if with_inputs:
        groups["inputs"] = sample.inputs
    return {
        group: {name: to_jsonable(value) for name, value in values.items()}
        for group, values in groups.items()
        if values
    }


def to_jsonable(value: Any) -> Any:
    """Convert any value to JSON types; a float32 becomes the shortest decimal that rounds to it."""
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.kind == "f" and array.dtype.itemsize < 8:
            array = array.astype("U").astype("float64")
        return to_jsonable(array.tolist()) if array.dtype.kind in "fSO" else array.tolist()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, float):
        return _encode_non_finite(value)
    if isinstance(value, Mapping):
        return {str(name): to_jsonable(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _encode_non_finite(value: float) -> float | str:
    """Return NaN and infinities as strings, because JSON has no such numbers."""
    return value if math.isfinite(value) else str(value)
