"""Versions of the JSON files that we write and read back.

Each kind of file has one `FileFormat`. Its files begin with `format_version` and the version of the package that wrote
them. An older file is migrated to the current version before it is decoded, unless it is older than `oldest`; a newer
one is an error that names the version to install.

Example:
    >>> @dataclasses.dataclass(frozen=True)
    ... class Note:
    ...     text: str
    >>> NOTES = FileFormat("note", Note, version=2, migrations={1: lambda values: {"text": values["words"]}})
    >>> NOTES.decode({"format_version": 1, "words": "hello"}, "note.json")
    Note(text='hello')
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Generic, TypeAlias, TypeVar, is_typeddict

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json, read_json, require_json_object, write_json
from tfaip_like._utils.typed_json import AtLeast, decode, decode_lenient
from tfaip_like._version import __version__

T = TypeVar("T")

VERSION = "format_version"
"""Key with the version of the file's format."""
WRITER = "written_by"
"""Key with the version of this package that wrote the file."""


@dataclass(frozen=True)
class _Header:
    format_version: Annotated[int, AtLeast(1)]
    written_by: str = ""


Migration: TypeAlias = Callable[[dict[str, Json]], dict[str, Json]]
"""Function from the content of one version to that of the next; free to change its argument."""


class FormatVersionError(UsageError):
    """File of a format version that this version of the package cannot read."""


@dataclass(frozen=True)
class FileFormat(Generic[T]):
    """Format of a kind of JSON file.

    Raise `version` whenever a key is added, removed, or changes its meaning, and register a migration from the version
    before; or raise `oldest` if there is none.
    """

    name: str
    """Kind of file, for messages: `checkpoint`."""
    content: type[T]
    """Dataclass, `TypedDict` or `dict` of the current version."""
    version: int = 1
    migrations: Mapping[int, Migration] = field(default_factory=dict)
    """Migration to the next version, by version."""
    oldest: int = 1
    """Oldest version that can be read."""
    advice: str = "Use the version of tfaip_like that wrote it, or make a new one."
    """What to do with a file without a valid version, or of one that is too old."""
    is_handwritten: bool = False
    """Whether people write such files: without a version they are of the current one."""

    def __post_init__(self) -> None:
        missing = [version for version in range(self.oldest, self.version) if version not in self.migrations]
        if missing:
            raise ValueError(f"file format {self.name!r}: no migration from version {missing[0]}")

    def read(self, path: Path) -> T:
        """Read a file.

        Raises:
            FormatVersionError: if its version is too new or too old, or missing.
            UsageError: if it is damaged; names the line or the key.
        """
        return self.decode(read_json(path), str(path))

    def read_lenient(self, path: Path, problems: list[str]) -> T:
        """Read a file with a `TypedDict` or `dict`; invalid keys of a `TypedDict` are omitted.

        Args:
            path: path of the file.
            problems: list to append a message to for each damage.
        """
        try:
            values = self.upgrade(read_json(path), str(path))
            if is_typeddict(self.content):
                return decode_lenient(self.content, values, str(path), problems)
            return decode(self.content, values, str(path))
        except UsageError as error:
            problems.append(str(error))
            return decode(self.content, {}, str(path))

    def decode(self, value: Json, where: str) -> T:
        """Convert the JSON content of a file.

        Args:
            value: content of the file, of any version up to the current one.
            where: name of the file, for messages.

        Raises:
            FormatVersionError: if its version is too new or too old, or missing.
            UsageError: if it does not match its type; names the key.
        """
        return decode(self.content, self.upgrade(value, where), where)

    def upgrade(self, value: Json, where: str) -> dict[str, Json]:
        """Return the content of a file in the current version, without the version itself.

        Args:
            value: content of the file.
            where: name of the file, for messages.

        Raises:
            FormatVersionError: if its version is too new or too old, or missing.
            UsageError: if it is not a JSON object.
        """
        values = dict(require_json_object(value, where))
        # With misspelt keys, which must not count as missing.
        header = {key: values.pop(key) for key in [*values] if get_close_matches(key, (VERSION, WRITER), 1, 0.8)}
        for step in range(self._check_version(header, where), self.version):
            try:
                values = self.migrations[step](values)
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                raise UsageError(
                    f"{where}: damaged: cannot be converted from version {step} to {step + 1} of its format "
                    f"({type(error).__name__}: {error})"
                ) from error
        return values

    def _check_version(self, header: dict[str, Json], where: str) -> int:
        if not header and self.is_handwritten:
            return self.version
        if not header:
            raise FormatVersionError(
                f"{where}: {VERSION}: missing key; the {self.name} was written before files had versions, or edited.\n"
                f"{self.advice}"
            )
        try:
            version = decode(_Header, header, where).format_version
        except UsageError as error:
            raise FormatVersionError(f"{error}\n{self.advice}") from None
        if self.oldest <= version <= self.version:
            return version
        is_newer = version > self.version
        unknown = f"{'a newer' if is_newer else 'an older'} tfaip_like"
        raise FormatVersionError(
            f"{where}: {VERSION}: {version} is too {'new' if is_newer else 'old'}, written by "
            f"{f'tfaip_like {header[WRITER]}' if WRITER in header else unknown}; this is tfaip_like {__version__} "
            f"with version {self.version} of a {self.name}.\n"
            f"{'Update tfaip_like, or use the one that wrote it.' if is_newer else self.advice}"
        )

    def encode(self, value: T) -> dict[str, Any]:
        """Return the content of a file: the version, then the values."""
        content: Any = value
        values = dataclasses.asdict(content) if dataclasses.is_dataclass(value) else content
        return {VERSION: self.version, WRITER: __version__, **values}

    def write(self, path: Path, value: T, indent: int | None = 2) -> None:
        """Write a file atomically.

        Args:
            path: path of the file.
            value: its content.
            indent: number of spaces per level; None writes a single line.
        """
        write_json(path, self.encode(value), indent)
