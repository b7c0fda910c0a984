"""Values that a person gave by flag and that would change nothing.

`ParamsBase.ignored_params` says which parameters change nothing as the others are. Only what was given is refused:
defaults, and values of a file that holds all of them, are not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError
from tfaip_like.params._apply import ResolvedParams
from tfaip_like.params._base import ParamPath, ParamsBase, field_default, field_types, iter_params
from tfaip_like.params._formatting import format_value
from tfaip_like.params._tree import iter_leaves, path_to_flag

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExplicitFlags:
    """The values that flags gave, as words by their places."""

    words: Mapping[ParamPath, str]

    @classmethod
    def from_resolved(cls, resolved: ResolvedParams) -> ExplicitFlags:
        """Return what flags gave; not what files did."""
        values = {leaf.path: format_value(leaf.type, leaf.value) for leaf in iter_leaves(resolved.tree)}
        return cls({path: values.get(path, "") for path, origin in resolved.origins.items() if origin == "flag"})

    def reject(self, path: ParamPath, reason: str) -> None:
        """Refuse the value of a path, or the first one below it, if it was given.

        Args:
            path: that has no effect.
            reason: why, and what to do.

        Raises:
            UsageError: names the flag.
        """
        for given in self._flags_below(path):
            raise UsageError(f"{given}: has no effect: {reason}")

    def warn(self, path: ParamPath, reason: str) -> None:
        """Warn of the value of a path that has no effect, if it was given and changes no number of a run."""
        for given in self._flags_below(path):
            logger.warning("%s: has no effect: %s", given, reason)

    def _flags_below(self, path: ParamPath) -> Iterator[str]:
        for given, words in self.words.items():
            if given[: len(path)] == path:
                yield " ".join(filter(None, [path_to_flag(given), words]))

    def reject_overridden(self, before: ParamsBase, after: ParamsBase, by: str) -> None:
        """Refuse a given value that a scenario has replaced by another.

        Args:
            by: what has replaced it.

        Raises:
            UsageError: names the flag and the new value.
        """
        old, new = (
            {leaf.path: format_value(leaf.type, leaf.value) for leaf in iter_leaves(t)} for t in (before, after)
        )
        for path in self.words:
            if path in old and old[path] != new.get(path):
                instead = new.get(path, "something without it")
                self.reject(path, f"{by} makes it {instead}; leave it out")


NO_EXPLICIT_FLAGS = ExplicitFlags({})


def reject_ignored_flags(tree: ParamsBase, given: ExplicitFlags) -> None:
    """Refuse the first value that was given and has no effect.

    Raises:
        UsageError: names the flag and the reason.
    """
    for path, reason in iter_ignored_params(tree):
        given.reject(path, reason)


def warn_ignored_params(tree: ParamsBase, of: Callable[[ParamPath], bool] = lambda path: True) -> None:
    """Warn of values that have no effect and are no defaults of their class: from Python code, or from files.

    Args:
        of: whether a path is of interest.
    """
    by_place = dict(iter_params(tree))
    for path, reason in iter_ignored_params(tree):
        owner = by_place.get(path[:-1])
        if owner is None or path[-1] not in field_types(type(owner)) or not of(path):
            continue
        if (value := getattr(owner, path[-1])) != field_default(type(owner), path[-1]):
            logger.warning("%s=%r has no effect: %s", ".".join(path), value, reason)


def iter_ignored_params(tree: ParamsBase) -> Iterator[tuple[ParamPath, str]]:
    """Yield the places whose values change nothing as the others are, each with the reason."""
    for path, params in iter_params(tree):
        for name, reason in params.ignored_params().items():
            yield (*path, *name.split(".")), reason
