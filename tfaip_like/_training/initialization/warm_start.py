"""Warm start: initial weights from another run (`--warmstart`)."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from tfaip_like._keras_ext.lora import lora_weight_ids
from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._training.initialization.keras_files import Array
from tfaip_like._training.initialization.saved_weights import SavedWeights, read_weights
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.settings import WarmStart

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

MAX_LISTED_WEIGHTS = 3
"""Mismatched weights listed in an error; there may be hundreds."""

UNEXPECTED = "unexpected"
"""Reason for an unused weight: no weight of the network has its name."""


@dataclass(frozen=True)
class WarmStartReport:
    """Outcome of a warm start; weights by path."""

    file: Path
    """Source of the weights."""

    loaded: tuple[str, ...]
    """Weights of the network that were loaded."""

    missing: Mapping[str, Shape]
    """Weights of the network that are missing in the file, and their shapes."""

    shape_mismatch: Mapping[str, tuple[Shape, Shape]]
    """Weights of the network whose shape differs: shapes in the network and in the file."""

    excluded: tuple[str, ...]
    """Weights of the network that the settings exclude."""

    unused: Mapping[str, str]
    """Weights of the file that were not loaded, and the reason: excluded, shape mismatch, unexpected."""

    def lines(self) -> list[str]:
        """Return the log message, one to three lines."""
        kept = [(path, "excluded") for path in self.excluded]
        kept += [(path, "missing in the file") for path in self.missing]
        kept += [
            (path, f"shape {shape} in the network, {file_shape} in the file")
            for path, (shape, file_shape) in self.shape_mismatch.items()
        ]
        lines = [f"warm start: loaded {len(self.loaded)} of {len(self.loaded) + len(kept)} weights from {self.file}"]
        if kept:
            lines.append(f"not loaded (keep initial values): {_group_by_reason(kept)}")
        # Other unused weights are the counterparts of those above.
        unexpected = [path for path, reason in self.unused.items() if reason == UNEXPECTED]
        if unexpected:
            lines.append(f"unexpected weights in the file: {truncate_list(unexpected)}")
        return lines


def warm_start(network: keras.Model, settings: WarmStart) -> WarmStartReport:
    """Load weights of another run into a network, and log which.

    Args:
        network: network to initialize; unchanged if an error is raised.
        settings: source (`model` must be set), rename rules and filters.

    Returns:
        The weights that were loaded, and those that were not.

    Raises:
        UsageError: if the weights cannot be read or do not match, or a setting has no effect.
    """
    assert settings.model is not None
    saved = read_weights(settings.model)
    origins = _apply_rename_rules(saved, settings)
    source = {name: saved.arrays[path] for name, path in origins.items() if path in saved.arrays}
    weights = weight_paths(network)
    names = saved.names_in_file(network)
    chosen = _select_weights(weights, settings)
    lora = lora_weight_ids(network)  # usually only the weights that it adapts are in the file
    chosen -= {path for path in chosen if id(weights[path]) in lora and names[path] not in source}
    _reject_invalid_entries(
        saved, (origins[names[path]] for path in weights if path in chosen and names[path] in origins)
    )
    if not source:
        example = ', such as {"hidden/kernel": [[0.5, 1], [2, 3]]}' if saved.file.suffix == ".json" else ""
        raise UsageError(f"--warmstart.model {saved.file}: contains no named lists of numbers{example}")
    report = _match_weights(saved.file, source, weights, names, chosen)
    if not report.loaded or (not settings.allow_partial and (report.missing or report.shape_mismatch)):
        raise UsageError(_format_error(report, source, names, settings))
    for path in report.loaded:
        weights[path].assign(source[names[path]])
    for line in report.lines():
        logger.info("%s", line)
    return report


def _apply_rename_rules(saved: SavedWeights, settings: WarmStart) -> dict[str, str]:
    """Return the paths of the entries in the file by their renamed paths."""
    names = {path: path for path in (*saved.invalid, *saved.arrays)}
    for rule in settings.rename:
        pattern, _, replacement = rule.partition("->")
        if not any(re.search(pattern, name) for name in names.values()):
            raise UsageError(
                f"--warmstart.rename {rule}: matches no weight in {saved.file}; available: "
                f"{truncate_list([names[path] for path in saved.arrays])}"
            )
        names = {path: re.sub(pattern, replacement, name) for path, name in names.items()}
    origins: dict[str, str] = {}
    for path, name in names.items():
        if name in origins and origins[name] in saved.arrays:
            raise UsageError(f"--warmstart.rename: renames both {origins[name]} and {path} to {name}")
        origins[name] = path
    return origins


def _reject_invalid_entries(saved: SavedWeights, needed: Iterable[str]) -> None:
    """Raise for an entry of the file that is needed and cannot be a weight, even if missing weights are allowed."""
    for path in needed:
        if path in saved.invalid:
            raise UsageError(f"--warmstart.model {saved.file}: {saved.invalid[path]}")


def _select_weights(weights: Collection[str], settings: WarmStart) -> set[str]:
    """Return the paths of the weights to load."""
    for flag in ("include", "exclude"):
        for pattern in getattr(settings, flag):
            if not any(re.search(pattern, path) for path in weights):
                raise UsageError(
                    f"--warmstart.{flag} {pattern}: matches no weight of the network; available: "
                    f"{truncate_list(weights)}"
                )
    chosen = {
        path
        for path in weights
        if (not settings.include or any(re.search(pattern, path) for pattern in settings.include))
        and not any(re.search(pattern, path) for pattern in settings.exclude)
    }
    if not chosen:
        raise UsageError("--warmstart.exclude: excludes all weights of the network")
    return chosen


def _match_weights(
    file: Path,
    source: Mapping[str, Array],
    weights: Mapping[str, keras.Variable],
    names: Mapping[str, str],
    chosen: Collection[str],
) -> WarmStartReport:
    """Compare the weights of the network with those of the file.

    Args:
        file: source of the weights.
        source: values in the file, by name.
        weights: weights of the network, by path.
        names: names in the file of the weights of the network, by path.
        chosen: paths of the weights to load.
    """
    shapes = {path: tuple(weight.shape) for path, weight in weights.items()}
    available = [path for path in weights if path in chosen and names[path] in source]
    loaded = [path for path in available if source[names[path]].shape == shapes[path]]
    used = {names[path] for path in loaded}
    reasons = {names[path]: "shape mismatch" if path in chosen else "excluded" for path in weights}
    return WarmStartReport(
        file=file,
        loaded=tuple(loaded),
        missing={path: shapes[path] for path in weights if path in chosen and names[path] not in source},
        shape_mismatch={path: (shapes[path], source[names[path]].shape) for path in available if path not in loaded},
        excluded=tuple(path for path in weights if path not in chosen),
        unused={
            name: reasons.get(name, UNEXPECTED)
            for name, array in source.items()
            if name not in used and (array.ndim or name in reasons)  # other single numbers are settings
        },
    )


def _format_error(
    report: WarmStartReport, source: Mapping[str, Array], names: Mapping[str, str], settings: WarmStart
) -> str:
    failed = len(report.missing) + len(report.shape_mismatch)
    failure = (
        f"{failed} of {failed + len(report.loaded)} weights cannot be loaded"
        if report.loaded
        else f"none of the {failed} weights can be loaded"
    )
    problems = [
        f"{path} {shape} is missing{_suggest_nearest(names[path], shape, report, source)}"
        for path, shape in list(report.missing.items())[:MAX_LISTED_WEIGHTS]
    ]
    problems += [
        f"{path} has shape {file_shape} in the file but {shape} in the network"
        for path, (shape, file_shape) in report.shape_mismatch.items()
    ]
    more = f"; and {failed - MAX_LISTED_WEIGHTS} more" if failed > MAX_LISTED_WEIGHTS else ""
    advice = "If names differ, use --warmstart.rename FROM->TO"
    if report.loaded:
        advice += "; to load matching weights only, use --warmstart.exclude PATTERN or --warmstart.allow_partial true"
    return (
        f"--warmstart.model {settings.model}: {failure} from {report.file}:\n"
        f"{'; '.join(problems[:MAX_LISTED_WEIGHTS])}{more}.\n{advice}."
    )


def _suggest_nearest(name: str, shape: Shape, report: WarmStartReport, source: Mapping[str, Array]) -> str:
    """Return a suggestion of a weight with a similar name, preferably of the same shape; empty if there is none."""
    unexpected = [other for other, reason in report.unused.items() if reason == UNEXPECTED]
    same_shape = [other for other in unexpected if source[other].shape == shape]
    closest = difflib.get_close_matches(name, same_shape, 1, 0.5) or difflib.get_close_matches(name, unexpected, 1, 0.6)
    return f" (did you mean {closest[0]} {source[closest[0]].shape}?)" if closest else ""


def _group_by_reason(reasons: Iterable[tuple[str, str]]) -> str:
    """Format as `a, b (excluded); c (missing in the file)`."""
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons:
        grouped.setdefault(reason, []).append(name)
    return "; ".join(f"{truncate_list(names)} ({reason})" for reason, names in grouped.items())
