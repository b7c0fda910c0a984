"""Files of predictions: JSON lines, arrays, or what a scenario writes itself."""

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
from tfaip_like._utils.temp_dirs import locked_dir
from tfaip_like.data._sample import Sample
from tfaip_like.params import Params

INPUTS_PREFIX, TARGETS_PREFIX, INDEX_KEY = "inputs/", "targets/", "index"
"""Names of arrays that are no outputs, or how they begin."""
COPY_CHUNK_BYTES = 2**22
"""Bytes."""

WriteSample: TypeAlias = Callable[[Sample], None]
"""Writes one sample."""


class Writer(Params, abc.ABC):
    """Writes predicted samples."""

    @abc.abstractmethod
    def open(self, file: Path) -> AbstractContextManager[WriteSample]:
        """Opens a file and gives what writes a sample; most easily written with `contextlib.contextmanager`::

            @contextmanager
            def open(self, file):
                with file.open("w") as stream:
                    yield lambda sample: print(sample.outputs["text"], file=stream)

        Samples come one by one and in their order; there may be any number of them.

        Args:
            file: does not exist yet; it gets the name that was asked for once it is closed.
        """


class JsonLines(Writer):
    """An object on each line: `outputs`, with `targets` where there are any, and what is in `meta`."""

    inputs: bool = False
    """Write the inputs of each sample too, for evaluators that need them later."""

    @contextmanager
    def open(self, file: Path) -> Iterator[WriteSample]:
        with open(file, "w", encoding="utf-8") as stream:
            yield self.write_to(stream)

    def write_to(self, stream: IO[str]) -> WriteSample:
        """Writes into an open file, each sample as soon as it comes."""

        def write(sample: Sample) -> None:
            stream.write(escape_json(json.dumps(_as_json(sample, self.inputs), ensure_ascii=False)) + "\n")
            stream.flush()

        return write


class Npz(Writer):
    """Arrays with a row for each sample: `NAME` of outputs, `targets/NAME` of targets, `index` of it in its source.

    All samples have the same outputs, of one shape and type.
    """

    inputs: bool = False
    """Write the inputs of each sample too, as `inputs/NAME`."""

    @contextmanager
    def open(self, file: Path) -> Iterator[WriteSample]:
        with locked_dir(file.parent, ".npz-") as folder:
            columns: dict[str, _Column] = {}
            count = 0

            def write(sample: Sample) -> None:
                nonlocal count
                count += 1
                for name, value in _to_arrays(sample, self.inputs).items():
                    if name not in columns:
                        columns[name] = _Column(name, np.asarray(value), Path(folder, str(len(columns))))
                    columns[name].add(np.asarray(value))

            yield write
            for column in columns.values():
                column.check(count)
            with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
                for column in columns.values():
                    column.write_to(archive)


class _Column:
    """The rows of one array, gathered in a file of their own, because they may not fit in memory."""

    def __init__(self, name: str, first: npt.NDArray[Any], file: Path):
        if first.dtype.kind not in "fiub":
            raise UsageError(f"output {name!r} holds {first.dtype}, not numbers; write JSON lines (FILE.jsonl)")
        self.name = name
        self.shape, self.dtype = first.shape, first.dtype
        self.count = 0
        self._file = file
        self._stream = open(file, "wb")  # noqa: SIM115

    def add(self, row: npt.NDArray[Any]) -> None:
        if row.shape != self.shape:
            raise UsageError(
                f"output {self.name!r} has shape {self.shape} in one sample and {row.shape} in another, which no array "
                "can hold; write JSON lines (FILE.jsonl)"
            )
        if not np.can_cast(row.dtype, self.dtype, "same_kind"):
            raise UsageError(
                f"output {self.name!r} holds {self.dtype} in the first sample and {row.dtype} in another; let it be of "
                "one type, or write JSON lines (FILE.jsonl)"
            )
        self._stream.write(row.astype(self.dtype, copy=False).tobytes())
        self.count += 1

    def check(self, samples: int) -> None:
        """Raises `UsageError` unless every sample has it."""
        if self.count != samples:
            raise UsageError(
                f"output {self.name!r} is missing in {samples - self.count} of {samples} samples; write JSON lines "
                "(FILE.jsonl)"
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
            while part := rows.read(COPY_CHUNK_BYTES):
                member.write(part)


WRITERS: Mapping[str, JsonLines | Npz] = {".jsonl": JsonLines(), ".npz": Npz()}


@contextmanager
def open_writer(file: Path | None, writer: Writer | None, flag: str) -> Iterator[WriteSample]:
    """Writes samples into a file, which is replaced when all is written; without one, to standard output.

    What was written before something went wrong is kept beside it, as `FILE.part`.

    Args:
        writer: by default the one for the ending of the file.
        flag: that named the file, to begin a message with.

    Raises:
        UsageError: when there is no writer for it, or it cannot be written.
    """
    if file is None:
        if writer is not None and not isinstance(writer, JsonLines):
            raise UsageError(f"--writer {type(writer).__name__} needs a file: {flag} FILE")
        yield (writer or JsonLines()).write_to(sys.stdout)
        return
    writer = writer or writer_for(file, flag)
    part = file.with_name(f"{file.name}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        part.unlink(missing_ok=True)
        part.touch()  # whether it can be written is best known before the first sample is predicted
    except OSError as error:
        raise UsageError(f"{flag} {file}: cannot be written: {error.strerror}") from error
    try:
        with writer.open(part) as write:
            yield write
    except BaseException as error:
        if part.exists() and part.stat().st_size:
            error.add_note(f"What was written until then is in {part}.")
        raise
    replace_file(file, part)


def writer_for(file: Path, flag: str) -> JsonLines | Npz:
    """Return the writer for the ending of a file's name."""
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
    """Anything as JSON has it; a float32 as the shortest number that is read as the same one."""
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
        return {str(name): to_jsonable(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_jsonable(part) for part in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _encode_non_finite(value: float) -> float | str:
    """NaN and infinities as texts, which JSON has no numbers for."""
    return value if math.isfinite(value) else str(value)
