"""Fingerprints of the data of a run, compared when it is resumed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial

from tfaip_like._runs.run_files import DataFingerprint, FileFingerprint
from tfaip_like._training.components import TrainingComponents
from tfaip_like.data._fingerprint import fingerprint_file, fingerprint_source
from tfaip_like.params._resources import iter_paths
from tfaip_like.params._tree import path_to_flag
from tfaip_like.scenario import Scenario

logger = logging.getLogger(__name__)

MAX_FILES = 100
"""Files of parameters that are hashed."""

DataFingerprints = Mapping[str, DataFingerprint]
FileFingerprints = Mapping[str, FileFingerprint]


def fingerprint_data(components: TrainingComponents) -> tuple[dict[str, DataFingerprint], dict[str, FileFingerprint]]:
    """Return the fingerprints of the sources by kind (train, val), and of the files of parameters by flag."""
    loaders = {"train": components.loader}
    if (validation := components.validations.validation) is not None:
        loaders["val"] = validation.loader
    sources = {
        kind: loader.call_interruptible(partial(fingerprint_source, loader.samples.source))
        for kind, loader in loaders.items()
    }
    return sources, dict(_fingerprint_files(components.scenario))


def _fingerprint_files(scenario: Scenario) -> Iterator[tuple[str, FileFingerprint]]:
    values = [value for value in iter_paths(scenario) if value.param_path[0] in ("data", "train", "val", "lav")]
    numbers = Counter[str]()
    for value in values[:MAX_FILES]:
        flag = path_to_flag(value.param_path)
        number = numbers[flag]
        numbers[flag] += 1
        with suppress(OSError):  # a directory, or missing: an error of the source, if it needs the file
            if value.path.is_file():
                yield f"{flag}.{number}" if number else flag, fingerprint_file(value.path)


def warn_changed_data(
    before: tuple[DataFingerprints, FileFingerprints], now: tuple[DataFingerprints, FileFingerprints]
) -> None:
    """Warn about data that have changed since the run started."""
    for kind, old in before[0].items():
        if (new := now[0].get(kind)) is not None and (change := _describe_change(old, new)):
            logger.warning(
                "%s data changed since the run started: %s; the results differ from those of an uninterrupted run",
                kind,
                change,
            )
    for flag, old_file in before[1].items():
        if (new_file := now[1].get(flag)) is not None and new_file["sha256"] != old_file["sha256"]:
            logger.warning(
                "the file of %s changed since the run started (%d to %d bytes)",
                flag,
                old_file["bytes"],
                new_file["bytes"],
            )


def _describe_change(old: DataFingerprint, new: DataFingerprint) -> str:
    if old["samples"] != new["samples"]:
        counts = ("a stream" if each["samples"] is None else f"{each['samples']} samples" for each in (old, new))
        return " to ".join(counts)
    if old["sha256"] and new["sha256"] and old["sha256"] != new["sha256"]:
        return f"as many samples, but of {new['hashed_samples']} compared ones, some have other values or files"
    return ""
