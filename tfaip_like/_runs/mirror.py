"""Copy of a run directory at a URL, complete at any time.

URL/RUN/blobs/SHA256               contents of the files
URL/RUN/manifest-00000012.json     names, sizes and hashes of the files of one state of the run

Blobs are uploaded first and never changed, the manifest last; only then are the manifest before it and the blobs that
it alone needs removed. A writer that is killed therefore leaves the previous state.
"""

from __future__ import annotations

import hashlib
import json
import logging
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._runs.run_files import RUN_INFO_FORMAT, read_run_file
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.file_formats import FileFormat, FormatVersionError
from tfaip_like._utils.json_files import format_json, parse_json
from tfaip_like._utils.remote_paths import explain_remote_errors, open_file_system
from tfaip_like._utils.typed_json import Count

logger = logging.getLogger(__name__)

BLOBS = "blobs"
PROBE = "probe"
"""File that is written and removed to find out whether writing is allowed."""
NUM_FETCH_ATTEMPTS = 3
"""Attempts to download a state, which the training may replace meanwhile."""
_MANIFEST = re.compile(r"manifest-(\d{8})\.json")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class MirroredFile:
    """Content of a file."""

    sha256: str
    size: Count


@dataclass(frozen=True)
class Manifest:
    """One state of a run."""

    run: str
    """Identity of the run, see `run_identity`."""
    checkpoint: str
    """Name of the latest checkpoint; empty if there is none."""
    files: dict[str, MirroredFile]
    """Contents by path relative to the run directory."""


MANIFEST_FORMAT = FileFormat("manifest of a mirrored run", Manifest)


def run_identity(output_dir: OutputDir) -> str:
    """Return a text that differs between runs with the same name; empty if the directory has no run."""
    info = read_run_file(RUN_INFO_FORMAT, output_dir.run)
    return f"{info['started']}, seed {info.get('random_seed')}" if "started" in info else ""


def checkpoint_order(name: str) -> tuple[int, ...]:
    """Return a key that sorts names of checkpoints by their position: `epoch_0002_step_00345`."""
    return tuple(map(int, re.findall(r"\d+", name)))


def hash_file(path: Path) -> MirroredFile:
    """Return size and hash of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return MirroredFile(digest, file.tell())


class RunMirror:
    """Reader and writer of the copy of a run.

    Args:
        url: URL, or path, of the copy.
    """

    def __init__(self, url: str):
        self.url = url.rstrip("/")

    def latest(self) -> Manifest | None:
        """Return the manifest of the newest complete state; None if there is none.

        Raises:
            UsageError: if it cannot be read.
        """
        with explain_remote_errors(self.url):
            files, root = open_file_system(self.url)
            for number in reversed(self._list_manifests(files, root)):
                name = _manifest_name(number)
                try:
                    text = files.cat_file(f"{root}/{name}").decode("utf-8")
                    return MANIFEST_FORMAT.decode(parse_json(text, name), f"{self.url}/{name}")
                except FormatVersionError:
                    raise
                except (UsageError, UnicodeDecodeError) as error:  # its writer was killed, on some file systems
                    logger.warning("%s; using the previous manifest", error)
        return None

    def check_writable(self) -> None:
        """Raise `UsageError` if nothing can be written there."""
        with explain_remote_errors(self.url):
            files, root = open_file_system(self.url)
            _make_dirs(files, root)
            files.pipe_file(f"{root}/{PROBE}", b"")
            files.rm_file(f"{root}/{PROBE}")

    def upload(self, manifest: Manifest, locate: Callable[[str], Path]) -> int:
        """Upload a state of the run; return the number of bytes that were not there yet.

        Args:
            manifest: names and contents of the files.
            locate: function that returns the local path of a name; the files must not change.
        """
        files, root = open_file_system(self.url)
        _make_dirs(files, f"{root}/{BLOBS}")
        numbers, stored = self._list_manifests(files, root), _list_blobs(files, root)
        names = {file.sha256: name for name, file in manifest.files.items()}  # each content once
        num_bytes = 0
        for digest, name in names.items():
            if stored.get(digest) != (size := manifest.files[name].size):  # a part, if a writer was killed
                files.put_file(str(locate(name)), f"{root}/{BLOBS}/{digest}")
                num_bytes += size
        text = format_json(MANIFEST_FORMAT.encode(manifest), indent=1)
        files.pipe_file(f"{root}/{_manifest_name(max(numbers, default=0) + 1)}", text.encode("utf-8"))
        for number in numbers:
            files.rm_file(f"{root}/{_manifest_name(number)}")
        for digest in stored.keys() - names.keys():
            files.rm_file(f"{root}/{BLOBS}/{digest}")
        return num_bytes

    def download(self, target: Path, select: Callable[[Manifest], Manifest] = lambda manifest: manifest) -> Manifest:
        """Download the newest complete state into an empty directory, and verify it.

        Args:
            target: the directory.
            select: function that returns the part of a manifest to download.

        Raises:
            UsageError: if there is none, it cannot be read, or a file is damaged.
        """
        for attempt in range(1, NUM_FETCH_ATTEMPTS + 1):
            manifest = self.latest()
            if manifest is None:
                raise UsageError(f"{self.url}: contains no run that --trainer.mirror_to has copied")
            part = select(manifest)
            with explain_remote_errors(self.url):
                files, root = open_file_system(self.url)
                try:
                    for name, file in part.files.items():
                        self._download_file(files, root, file, target / _check_name(name, self.url))
                except FileNotFoundError:
                    if attempt == NUM_FETCH_ATTEMPTS or self.latest() == manifest:
                        raise
                    continue  # a training has replaced the state
            return part
        raise AssertionError

    def _download_file(self, files: Any, root: str, file: MirroredFile, path: Path) -> None:
        if not _SHA256.fullmatch(file.sha256):
            raise UsageError(f"{self.url}: damaged manifest: {file.sha256[:80]!r} is not a SHA-256 hash")
        path.parent.mkdir(parents=True, exist_ok=True)
        files.get_file(f"{root}/{BLOBS}/{file.sha256}", str(path))
        if hash_file(path) != file:
            raise UsageError(f"{self.url}/{BLOBS}/{file.sha256}: checksum mismatch; the file is damaged")

    @staticmethod
    def _list_manifests(files: Any, root: str) -> list[int]:
        """Return the numbers of the manifests, sorted."""
        files.invalidate_cache()
        try:
            names = [posixpath.basename(name) for name in files.ls(root, detail=False)]
        except FileNotFoundError:
            return []
        return sorted(int(match[1]) for name in names if (match := _MANIFEST.fullmatch(name)))


def is_mirror(location: str) -> bool:
    """Return whether a location has the layout of a mirrored run.

    Raises:
        UsageError: if it cannot be listed.
    """
    with explain_remote_errors(location):
        return bool(RunMirror._list_manifests(*open_file_system(location.rstrip("/"))))


def _manifest_name(number: int) -> str:
    return f"manifest-{number:08d}.json"


def _list_blobs(files: Any, root: str) -> dict[str, int]:
    """Return the sizes of the blobs by their hash."""
    try:
        found: Mapping[str, Mapping[str, Any]] = files.find(f"{root}/{BLOBS}", detail=True)
    except FileNotFoundError:
        return {}
    return {posixpath.basename(name): info["size"] for name, info in found.items()}


def _make_dirs(files: Any, path: str) -> None:
    """Create a directory, where there are any: object stores, whose file systems are asynchronous, have only keys."""
    if not files.async_impl:
        files.makedirs(path, exist_ok=True)


def _check_name(name: str, url: str) -> str:
    """Return a name of a manifest; raise `UsageError` if it leads out of the directory."""
    is_inside = name == posixpath.normpath(name) and not name.startswith(("/", "..")) and name != "."
    if not is_inside or "\\" in name or "\0" in name:
        raise UsageError(f"{url}: damaged manifest: {json.dumps(name)} is not a path inside the run")
    return name
