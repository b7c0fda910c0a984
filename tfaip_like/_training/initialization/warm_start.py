"""Warm start: a network begins with weights of an earlier training."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import keras

from tfaip_like._keras_ext.paths import weight_paths
from tfaip_like._training.initialization.saved_weights import Array, SavedWeights, read_weights
from tfaip_like._utils.errors import UsageError, truncate_list
from tfaip_like.settings import WarmStart

logger = logging.getLogger(__name__)

Shape = tuple[int, ...]

MAX_LISTED_WEIGHTS = 3
"""Weights that do not fit in a message; there may be hundreds."""

UNEXPECTED = "not here"
"""Why a weight there is unused: no weight of the network is called so."""


@dataclass(frozen=True)
class WarmStartReport:
    """What a warm start has loaded and what not; weights by their paths."""

    file: Path
    """Where the weights were."""

    loaded: tuple[str, ...]
    """Weights of the network that have their values from there."""

    missing: Mapping[str, Shape]
    """Weights of the network that are not there, with their shapes."""

    shape_mismatch: Mapping[str, tuple[Shape, Shape]]
    """Weights of the network that have another shape there: here and there."""

    excluded: tuple[str, ...]
    """Weights of the network that were not to be loaded."""

    unused: Mapping[str, str]
    """Weights there that were not loaded, and why: excluded, other shape, not here."""

    def lines(self) -> list[str]:
        """What a person wants to know, in one to three lines."""
        kept = [(path, "excluded") for path in self.excluded]
        kept += [(path, "not there") for path in self.missing]
        kept += [(path, f"{here} here, {there} there") for path, (here, there) in self.shape_mismatch.items()]
        lines = [f"warm start: {len(self.loaded)} of {len(self.loaded) + len(kept)} weight tensors from {self.file}"]
        if kept:
            lines.append(f"stay as they were initialised: {_group_by_reason(kept)}")
        # The others have been named: they are not loaded because of their counterparts here.
        unused = [path for path, why in self.unused.items() if why == UNEXPECTED]
        if unused:
            lines.append(f"unused there, since nothing here is called so: {truncate_list(unused)}")
        return lines


def warm_start(network: keras.Model, settings: WarmStart) -> WarmStartReport:
    """Gives the weights of a network their values in an earlier training; the log says which.

    Nothing is changed if anything is wrong.

    Args:
        settings: with a `model`.

    Raises:
        UsageError: when the weights cannot be read or do not fit, or a setting has no effect.
    """
    assert settings.model is not None
    saved = read_weights(settings.model)
    source = _apply_rename_rules(saved, settings)
    weights = weight_paths(network)
    names = saved.names_in_file(network)
    report = _match_weights(saved.file, source, weights, names, chosen=_select_weights(weights, settings))
    if not report.loaded or (not settings.allow_partial and (report.missing or report.shape_mismatch)):
        raise UsageError(_format_error(report, source, names, settings))
    for path in report.loaded:
        weights[path].assign(source[names[path]])
    for line in report.lines():
        logger.info("%s", line)
    return report


def _apply_rename_rules(saved: SavedWeights, settings: WarmStart) -> dict[str, Array]:
    """The values there, by the paths that the rules make of theirs."""
    names = {path: path for path in saved.arrays}
    for rule in settings.rename:
        pattern, _, replacement = rule.partition("->")
        if not any(re.search(pattern, name) for name in names.values()):
            raise UsageError(
                f"--warmstart.rename {rule}: no weight in {saved.file} has such a path; they are "
                f"{truncate_list(names.values())}"
            )
        names = {path: re.sub(pattern, replacement, name) for path, name in names.items()}
    origins: dict[str, str] = {}
    for path, name in names.items():
        if name in origins:
            raise UsageError(f"--warmstart.rename: {origins[name]} and {path} both become {name}")
        origins[name] = path
    return {name: saved.arrays[path] for name, path in origins.items()}


def _select_weights(weights: Collection[str], settings: WarmStart) -> set[str]:
    """The paths of the weights here that are to be loaded."""
    for flag in ("include", "exclude"):
        for pattern in getattr(settings, flag):
            if not any(re.search(pattern, path) for path in weights):
                raise UsageError(
                    f"--warmstart.{flag} {pattern}: no weight of this network has such a path; they are "
                    f"{truncate_list(weights)}"
                )
    chosen = {
        path
        for path in weights
        if (not settings.include or any(re.search(pattern, path) for pattern in settings.include))
        and not any(re.search(pattern, path) for pattern in settings.exclude)
    }
    if not chosen:
        raise UsageError("--warmstart.exclude leaves no weight of this network to load")
    return chosen


def _match_weights(
    file: Path,
    source: Mapping[str, Array],
    weights: Mapping[str, keras.Variable],
    names: Mapping[str, str],
    chosen: Collection[str],
) -> WarmStartReport:
    """What will be loaded, and what not; `names` are those of the weights here in the file."""
    shapes = {path: tuple(weight.shape) for path, weight in weights.items()}
    found = [path for path in weights if path in chosen and names[path] in source]
    loaded = [path for path in found if source[names[path]].shape == shapes[path]]
    used = {names[path] for path in loaded}
    reasons = {names[path]: "other shape" if path in chosen else "excluded" for path in weights}
    return WarmStartReport(
        file=file,
        loaded=tuple(loaded),
        missing={path: shapes[path] for path in weights if path in chosen and names[path] not in source},
        shape_mismatch={path: (shapes[path], source[names[path]].shape) for path in found if path not in loaded},
        excluded=tuple(path for path in weights if path not in chosen),
        unused={name: reasons.get(name, UNEXPECTED) for name in source if name not in used},
    )


def _format_error(
    report: WarmStartReport, source: Mapping[str, Array], names: Mapping[str, str], settings: WarmStart
) -> str:
    failed = len(report.missing) + len(report.shape_mismatch)
    number = f"{failed} of {failed + len(report.loaded)}" if report.loaded else f"none of the {failed}"
    problems = [
        f"{path} {shape} is not there{_suggest_nearest(names[path], shape, report, source)}"
        for path, shape in list(report.missing.items())[:MAX_LISTED_WEIGHTS]
    ]
    problems += [f"{path} is {here} here and {other} there" for path, (here, other) in report.shape_mismatch.items()]
    more = f"; and {failed - MAX_LISTED_WEIGHTS} more" if failed > MAX_LISTED_WEIGHTS else ""
    cannot = "can" if not report.loaded else "cannot"
    advice = "Where names differ, say --warmstart.rename FROM->TO"
    if report.loaded:
        advice += "; to begin with what fits, --warmstart.exclude WHAT or --warmstart.allow_partial true"
    return (
        f"--warmstart.model {settings.model}: {number} weight tensors {cannot} be loaded from {report.file}:\n"
        f"{'; '.join(problems[:MAX_LISTED_WEIGHTS])}{more}.\n{advice}."
    )


def _suggest_nearest(name: str, shape: Shape, report: WarmStartReport, source: Mapping[str, Array]) -> str:
    """Return a question whether a weight of a similar name is meant; one of the same shape if there is any."""
    rows = [array.shape for other, array in source.items() if re.fullmatch(rf"{re.escape(name)}/\d+", other)]
    if rows:
        return (
            f" as one array: {name} is a list of arrays of shapes "
            f"{truncate_list([str(row) for row in rows], MAX_LISTED_WEIGHTS)}"
        )
    free = [other for other, why in report.unused.items() if why == UNEXPECTED]
    fitting = [other for other in free if source[other].shape == shape]
    near = difflib.get_close_matches(name, fitting, 1, 0.5) or difflib.get_close_matches(name, free, 1, 0.6)
    return f" (did you mean {near[0]} {source[near[0]].shape}?)" if near else ""


def _group_by_reason(reasons: Iterable[tuple[str, str]]) -> str:
    """`a, b (excluded); c (not there)`."""
    grouped: dict[str, list[str]] = {}
    for name, reason in reasons:
        grouped.setdefault(reason, []).append(name)
    return "; ".join(f"{truncate_list(names)} ({reason})" for reason, names in grouped.items())
