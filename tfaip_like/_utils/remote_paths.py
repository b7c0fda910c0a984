"""Paths of inputs that may be URLs: `s3://bucket/train.lst`, `gs://`, `https://`, `memory://`, all that fsspec opens.

`to_path` decides what is a URL. Its `RemotePath` reads like any other path: opening one, or passing it to a library,
downloads the file into a cache on disk. Nothing is ever written to it.

Forks are safe, because no file system of fsspec is kept: fsspec makes new ones after a fork.
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import importlib.util
import logging
import os
import posixpath
import re
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from tfaip_like._utils.cache_dirs import user_cache_dir
from tfaip_like._utils.errors import UsageError, format_bytes, short_error_message

if TYPE_CHECKING:
    _LocalPath = Path
else:
    _LocalPath = type(Path())  # `Path` itself cannot be extended before Python 3.12

logger = logging.getLogger(__name__)

NOISY_LOGGERS = ("aiobotocore", "botocore", "fsspec", "gcsfs", "s3fs")
"""Loggers that print each connection, and tracebacks of the errors that they raise too."""
REMOTE_EXTRA = "tfaip_like[remote]"
LOCAL_PROTOCOLS = ("file", "local")
RETRY_DELAYS_S = (1.0, 4.0)
"""Waiting times before a failed download is repeated."""
LOGGED_BYTES = 2**26
"""Size from which a download is logged."""
VERSION_KEYS = ("ETag", "etag", "md5Hash", "Content-MD5", "Digest", "mtime", "LastModified", "Last-Modified")
"""Entries of fsspec's file information that change with the content; the first one that is present counts."""
CREATION_KEYS = ("updated", "created")
"""Entries that count if there is none of `VERSION_KEYS`."""

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://+(.*)", re.DOTALL)
_QUERY_PROTOCOLS = ("http", "https")


def _match_url(text: str) -> re.Match[str] | None:
    # The first test takes a tenth of the time of the second, for lists with millions of lines.
    return _URL.fullmatch(text) if "://" in text else None


def has_protocol(text: str) -> bool:
    """Return whether a text begins with a protocol, `file://` included."""
    return _match_url(text) is not None


def is_url(text: str) -> bool:
    """Return whether a text is a URL rather than a path of this machine; `file://` URLs are paths."""
    match = _match_url(text)
    return match is not None and match[1].lower() not in LOCAL_PROTOCOLS


def normalize_location(text: str) -> str:
    """Return a path unchanged, the path of a `file://` URL, or a URL without `.`, `..` and repeated slashes at its end.

    Raises:
        UsageError: for a URL with a query, or with an empty part.
    """
    match = _match_url(text)
    if match is None:
        return text
    protocol, rest = match[1].lower(), match[2]
    if protocol in LOCAL_PROTOCOLS:
        return text[len(match[1]) + len("://") :]
    if protocol in _QUERY_PROTOCOLS and re.search("[?#]", rest):
        raise UsageError(f"{text}: URLs with a query (?...) or fragment (#...) are not supported; download the file")
    if "//" in rest.rstrip("/") or "::" in rest:
        raise UsageError(f"{text}: URLs with `//` or `::` inside are not supported")
    path = posixpath.normpath(rest) if rest else ""
    if path.partition("/")[0] == "..":
        raise UsageError(f"{text}: leads out of the bucket or host")
    return f"{protocol}://{'' if path == '.' else path}"


def join_location(folder: str, name: str) -> str:
    """Return the location of a name that is relative to a folder; a URL or an absolute path is returned as is.

    Args:
        folder: path or URL of the folder.
        name: path relative to it, an absolute path, or a URL.

    Raises:
        UsageError: if it leads out of the bucket or host.
    """
    name = normalize_location(name)
    if not is_url(folder):
        return name if is_url(name) else os.path.join(folder, name)
    if is_url(name) or os.path.isabs(name):
        return name
    return normalize_location(f"{folder.rstrip('/')}/{name}")


def to_path(location: str | os.PathLike[str]) -> Path:
    """Return the path of a file on this machine, or at a URL.

    `pathlib.Path("s3://bucket/x")` would be the local path `s3:/bucket/x`.

    Args:
        location: path or URL: `data/train.lst`, `s3://bucket/train.lst`.

    Raises:
        UsageError: for a URL with a query.

    Example:
        >>> to_path("s3://bucket/scans/1.png").with_suffix(".txt").name
        '1.txt'
    """
    if isinstance(location, Path):
        return location
    text = normalize_location(os.fspath(location))
    return RemotePath(text) if is_url(text) else Path(text)


class RemotePath(_LocalPath):
    """Path of a file or directory at a URL, for reading.

    The first part is the protocol (`s3:`), so that `parent`, `name` and the others are those of any path.
    """

    def __str__(self) -> str:
        protocol, *rest = self.parts or ("",)
        return f"{protocol}//{'/'.join(rest)}" if protocol.endswith(":") else super().__str__()

    def __fspath__(self) -> str:
        """Return the path of a copy in the cache, for `open` and for libraries."""
        return str(local_copy(self))

    def __truediv__(self, key: str | os.PathLike[str]) -> Path:  # type: ignore[override]
        return to_path(join_location(str(self), str(key)))

    def __rtruediv__(self, key: str | os.PathLike[str]) -> Path:  # type: ignore[override]
        return self  # absolute

    def joinpath(self, *others: str | os.PathLike[str]) -> Path:  # type: ignore[override]
        return to_path(functools.reduce(join_location, map(str, others), str(self)))

    def exists(self, **options: Any) -> bool:
        return find_info(str(self)) is not None

    def is_dir(self, **options: Any) -> bool:
        return (find_info(str(self)) or {}).get("type") == "directory"

    def is_file(self, **options: Any) -> bool:
        return (find_info(str(self)) or {}).get("type") == "file"

    def is_symlink(self) -> bool:
        return False

    def is_absolute(self) -> bool:
        return True

    def absolute(self) -> RemotePath:
        return self

    def resolve(self, strict: bool = False) -> RemotePath:
        return self

    def expanduser(self) -> RemotePath:
        return self

    def stat(self, **options: Any) -> os.stat_result:
        """Return the status of the copy in the cache."""
        return os.stat(local_copy(self))

    def iterdir(self) -> Generator[Any, None, None]:
        with explain_remote_errors(str(self)):
            files, key = open_file_system(str(self))
            names = [to_path(files.unstrip_protocol(name)) for name in files.ls(key, detail=False)]
        yield from (name for name in names if name != self)

    def glob(self, pattern: str, **options: Any) -> Generator[Any, None, None]:
        yield from map(to_path, glob_urls(join_location(str(self), pattern)))

    def rglob(self, pattern: str, **options: Any) -> Generator[Any, None, None]:
        yield from self.glob(f"**/{pattern}")

    def open(self, mode: str = "r", *args: Any, **options: Any) -> IO[Any]:  # type: ignore[override]
        if set(mode) & set("wax+"):
            self._reject_writing()
        return builtins.open(local_copy(self), mode, *args, **options)

    def _reject_writing(self, *args: Any, **options: Any) -> NoReturn:
        raise UsageError(f"{self}: outputs must be on a file system, not at a URL")

    mkdir = touch = unlink = rmdir = rename = replace = symlink_to = chmod = _reject_writing


def require_local(path: Path, what: str = "") -> None:
    """Raise `UsageError` for a URL where an output is written; `what` names it."""
    if isinstance(path, RemotePath):
        raise UsageError(f"{what or 'output'} {path}: must be on a file system, not at a URL")


def local_path(path: Path) -> Path:
    """Return the path of the same content on this machine: of the copy in the cache, if it is at a URL."""
    return local_copy(path) if isinstance(path, RemotePath) else path


def find_info(url: str) -> Mapping[str, Any] | None:
    """Return what fsspec knows about a file or directory (`type`, `size`); None if it does not exist.

    Raises:
        UsageError: if it cannot be read, for example without credentials.
    """
    with explain_remote_errors(url):
        files, key = open_file_system(url)
        try:
            info: Mapping[str, Any] = files.info(key)
        except (FileNotFoundError, NotADirectoryError) as error:
            if error.__cause__ is not None and _is_connection_error(error.__cause__):
                raise error.__cause__ from None
            return None
    return info


def glob_urls(pattern: str) -> list[str]:
    """Return the URLs that match a URL with `*`, `?`, `[a-z]` or `**`, sorted.

    Raises:
        UsageError: if the directory cannot be listed.
    """
    with explain_remote_errors(pattern):
        files, key = open_file_system(pattern)
        return sorted(normalize_location(files.unstrip_protocol(name)) for name in files.glob(key))


def open_file_system(url: str, **options: Any) -> tuple[Any, str]:
    """Return the fsspec file system of a URL, and its path there.

    Raises:
        UsageError: if fsspec or the package of the protocol is not installed, or no package knows the protocol.
    """
    if importlib.util.find_spec("fsspec") is None:
        raise UsageError(f"{url}: URLs need fsspec; pip install '{REMOTE_EXTRA}'")
    import fsspec

    for package in NOISY_LOGGERS:
        if logging.getLogger(package).level == logging.NOTSET:
            logging.getLogger(package).setLevel(logging.CRITICAL)
    try:
        files, key = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        reason = short_error_message(error).rstrip(".")
        raise UsageError(f"{url}: {reason}: pip install '{REMOTE_EXTRA}' for s3:// and https://") from None
    except ValueError as error:  # unknown protocol
        raise UsageError(f"{url}: {short_error_message(error)}") from error
    return files, key


@contextmanager
def explain_remote_errors(url: str) -> Iterator[None]:
    """Convert any error of a file system of fsspec into a `UsageError` that names the URL."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:  # each package has its own exceptions
        raise UsageError(f"{url}: {_describe_error(error)}") from error


def _describe_error(error: Exception) -> str:
    """Return what is wrong and what to do."""
    reason = short_error_message(error)
    kind = type(error).__name__
    if isinstance(error, FileNotFoundError):
        return "no such file or directory" + (f" ({reason})" if "bucket does not exist" in reason else "")
    if "Credential" in kind or "credential" in reason.lower():
        return f"no credentials: {reason}; see the documentation of its fsspec package"
    if isinstance(error, PermissionError):
        return f"access denied: {reason}; check the credentials and the permissions of the bucket"
    if _is_connection_error(error):
        return f"cannot be reached: {reason}"
    return f"cannot be read: {kind}: {reason}"


def _is_connection_error(error: BaseException) -> bool:
    is_standard = isinstance(error, (ConnectionError, TimeoutError))
    return is_standard or re.search("Connect|Endpoint|Timeout|DNS", type(error).__name__) is not None


# The cache.

_copies: dict[str, Path] = {}
"""Copies that this process has found to be current, by URL."""


def remote_cache_dir() -> Path:
    """Return the directory of the copies of remote files, which the user may delete at any time."""
    return user_cache_dir("remote")


def local_copy(path: RemotePath) -> Path:
    """Return the path of a copy of a remote file or directory in the cache; download it unless it is there.

    A process asks once whether a file has changed, so that the files of every epoch cost one request each. A copy
    appears once it is complete: several processes may download the same file.

    Raises:
        UsageError: if it does not exist or cannot be downloaded.
    """
    url = str(path)
    known = _copies.get(url)
    if known is not None and known.exists():
        return known
    with explain_remote_errors(url):
        files, key = open_file_system(url)
        info = files.info(key)
        if info["type"] == "directory":
            copy = _copy_directory(files, key, path)
        else:
            copy = _copy_of_version(url, path.name, _version(info))
            _download_once(files, key, copy, info.get("size"))
    _copies[url] = copy
    return copy


def _copy_directory(files: Any, key: str, path: RemotePath) -> Path:
    found: dict[str, Mapping[str, Any]] = files.find(key, detail=True)
    if not found:
        raise UsageError(f"{path}: contains no files")
    root = key.rstrip("/") + "/"
    versions = {name.removeprefix(root): _version(info) for name, info in sorted(found.items())}
    copy = _copy_of_version(str(path), path.name, repr(versions))
    for name, info in found.items():
        part = posixpath.normpath(name.removeprefix(root))
        if part.startswith(("/", "..")):
            raise UsageError(f"{path}: contains {name}, which is outside of it")
        _download_once(files, name, copy / part, info.get("size"))
    return copy


def _version(info: Mapping[str, Any]) -> str:
    """Return a text that changes with the content of a file."""
    key = next((key for key in (*VERSION_KEYS, *CREATION_KEYS) if info.get(key)), None)
    return f"{info.get('size')} {info[key] if key else ''}"


def _copy_of_version(url: str, name: str, version: str) -> Path:
    digest = hashlib.sha256(f"{url}\0{version}".encode("utf-8", "surrogateescape")).hexdigest()
    return remote_cache_dir() / digest[:32] / (name or "root")


def _download_once(files: Any, key: str, copy: Path, size: int | None) -> None:
    """Download a file unless its copy exists; repeated after errors that may be temporary."""
    if copy.exists():
        return
    if size is not None and size >= LOGGED_BYTES:
        logger.info("downloading %s (%s)", files.unstrip_protocol(key), format_bytes(size))
    for delay in RETRY_DELAYS_S:
        try:
            _download(files, key, copy)
        except (FileNotFoundError, PermissionError, UsageError):
            raise
        except Exception as error:  # each package has its own exceptions
            logger.debug("%s: %s; repeated in %g s", key, error, delay)
            time.sleep(delay)
        else:
            return
    _download(files, key, copy)


def _download(files: Any, key: str, copy: Path) -> None:
    copy.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staging = tempfile.mkstemp(dir=copy.parent, prefix=".download-")
    os.close(descriptor)
    try:
        files.get_file(key, staging)
        os.utime(staging, (0, 0))  # the same after another download: indexes of shards compare times
        os.replace(staging, copy)
    except BaseException:
        Path(staging).unlink(missing_ok=True)
        raise
