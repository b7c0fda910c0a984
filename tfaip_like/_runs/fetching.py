"""Runs and exports at URLs: they are downloaded before they are used.

Nothing in them is executed by that: the trust rule of `_user_code.trust` applies to the downloaded directory.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path, PurePosixPath

from tfaip_like._runs.mirror import MANIFEST_FORMAT, Manifest, RunMirror, checkpoint_order, is_mirror, run_identity
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._utils.cache_dirs import user_cache_dir
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.files import atomic_directory
from tfaip_like._utils.json_files import format_json
from tfaip_like._utils.remote_paths import has_protocol, is_url, local_path, to_path

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints/"


def is_fetchable(location: str) -> bool:
    """Return whether a location is a URL, or a directory that `--trainer.mirror_to` has written."""
    return has_protocol(location) or (Path(location).is_dir() and is_mirror(location))


def fetch_run(location: str, output_dir: Path | None = None) -> Path:
    """Download the newest complete state of a mirrored run, unless the directory has it; return the directory.

    Args:
        location: URL or path of the copy.
        output_dir: directory of the run; by default its name in the current directory.

    Raises:
        UsageError: if there is no such run, it is damaged, or the directory holds something else.
    """
    mirror = RunMirror(location)
    target = output_dir or Path(PurePosixPath(mirror.url).name)
    manifest = mirror.latest()
    if manifest is None:
        raise UsageError(f"{location}: contains no run that --trainer.mirror_to has copied")
    if target.exists() and any(target.iterdir()) and _is_current(target, manifest, location):
        logger.info("%s has the state of %s, or a later one", target, location)
        return target
    if OutputDir(target).is_locked():
        raise UsageError(f"--output_dir {target}: another process is training in this directory")
    logger.info("fetching %s (%s) into %s", location, manifest.checkpoint or "no checkpoint", target)
    with atomic_directory(target) as staging:
        mirror.download(staging)
    return target


def _is_current(target: Path, manifest: Manifest, location: str) -> bool:
    """Return whether a directory has a state of the run that is at least as new as a manifest."""
    if run_identity(OutputDir(target)) != manifest.run:
        raise UsageError(f"--output_dir {target}: exists and is not the run at {location}; choose another directory")
    names = [path.name for path in OutputDir(target).checkpoints.glob("epoch_*")]
    latest = max(map(checkpoint_order, names), default=())
    return latest >= checkpoint_order(manifest.checkpoint)


def fetch_exports(location: str | Path) -> Path:
    """Return the local path of an export, a run or a checkpoint; one at a URL is downloaded into the cache.

    Args:
        location: path, URL of any directory with an export, or URL of a mirrored run: RUN, RUN/best, RUN/export,
            RUN/checkpoints/epoch_0012.

    Raises:
        UsageError: if it does not exist or is damaged.
    """
    if isinstance(location, Path) and not is_url(str(location)):
        return location
    text = str(location)
    if not is_fetchable(text):
        return Path(text) if not has_protocol(text) else to_path(text)
    parts = PurePosixPath(text).parts
    for depth in range(3):  # a run has its exports at depth 1, checkpoints at depth 2
        url = text.rstrip("/").rsplit("/", depth)[0] if depth else text
        if len(parts) - depth > 1 and is_mirror(url):
            return _fetch_part(RunMirror(url), "/".join(parts[len(parts) - depth :]))
    return local_path(to_path(text))


def _fetch_part(mirror: RunMirror, folder: str) -> Path:
    """Download a directory of a mirrored run into the cache; the run itself without its checkpoints."""

    def select(manifest: Manifest) -> Manifest:
        needed = {
            name: file
            for name, file in manifest.files.items()
            if name.startswith(f"{folder}/") or "/" not in name or (not folder and not name.startswith(CHECKPOINTS))
        }
        return Manifest(manifest.run, manifest.checkpoint, needed)

    manifest = mirror.latest()
    assert manifest is not None
    content = format_json(MANIFEST_FORMAT.encode(select(manifest)))
    digest = hashlib.sha256(f"{mirror.url}\0{content}".encode()).hexdigest()[:32]
    target = user_cache_dir("runs") / digest / PurePosixPath(mirror.url).name
    if not target.is_dir():
        with atomic_directory(target) as staging:
            mirror.download(staging, select)
    part = target / folder
    if not part.is_dir():
        raise UsageError(f"{mirror.url}/{folder}: no such directory in the mirrored run")
    return part
