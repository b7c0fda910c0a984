"""Detection of explicitly given parameter values that have no effect.

`Requires` in the annotation of a field, or `ParamsBase.ignored_params`, says that it has none. Flags for such fields
are errors; defaults and values from files are not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError
from tfaip_like.params._apply import ResolvedParams
from tfaip_like.params._base import ParamPath, ParamsBase, field_default, field_types, iter_params
from tfaip_like.params._field_rules import iter_unmet_requirements
from tfaip_like.params._formatting import format_value
from tfaip_like.params._tree import iter_leaves, path_to_flag

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExplicitFlags:
    """Parameter values that were given by flag."""

    words: Mapping[ParamPath, str]
    """Values as typed, by parameter path."""

    @classmethod
    def from_resolved(cls, resolved: ResolvedParams) -> ExplicitFlags:
        """Collect the values whose origin is a flag, not a file or default."""
        values = {leaf.path: format_value(leaf.type, leaf.value) for leaf in iter_leaves(resolved.tree)}
        return cls({path: values.get(path, "") for path, origin in resolved.origins.items() if origin == "flag"})

    def reject(self, path: ParamPath, reason: str) -> None:
        """Raise `UsageError` if a flag set the parameter at `path` or one below it.

        Args:
            path: parameter without effect.
            reason: why it has no effect, and what to do.

        Raises:
            UsageError: names the flag, its value and the reason.
        """
        for flag in self._flags_below(path):
            raise UsageError(f"{flag} has no effect: {reason}")

    def warn(self, path: ParamPath, reason: str) -> None:
        """Log a warning if a flag set the parameter at `path` or one below it; for values that affect no result."""
        for flag in self._flags_below(path):
            logger.warning("%s has no effect: %s", flag, reason)

    def _flags_below(self, path: ParamPath) -> Iterator[str]:
        for flag_path, words in self.words.items():
            if flag_path[: len(path)] == path:
                yield " ".join(filter(None, [path_to_flag(flag_path), words]))

    def reject_overridden(self, before: ParamsBase, after: ParamsBase, by: str) -> None:
        """Raise `UsageError` if the scenario replaced a value that a flag set.

        Args:
            before: parameters as given.
            after: parameters after the scenario adapted them.
            by: what replaced the value, for the message.

        Raises:
            UsageError: names the flag and the new value.
        """
        old, new = (
            {leaf.path: format_value(leaf.type, leaf.value) for leaf in iter_leaves(t)} for t in (before, after)
        )
        for path in self.words:
            if path in old and old[path] != new.get(path):
                change = f"sets it to {new[path]}" if path in new else "removes this parameter"
                self.reject(path, f"{by} {change}; omit it")


NO_EXPLICIT_FLAGS = ExplicitFlags({})


def reject_ignored_flags(tree: ParamsBase, given: ExplicitFlags) -> None:
    """Raise `UsageError` for the first flag that has no effect.

    Raises:
        UsageError: names the flag, its value and the reason.
    """
    for path, reason in iter_ignored_params(tree):
        given.reject(path, reason)


def warn_ignored_params(tree: ParamsBase, of: Callable[[ParamPath], bool] = lambda path: True) -> None:
    """Warn about non-default values without effect, which come from Python code or from files.

    Args:
        tree: parameter tree.
        of: predicate that selects the paths to check.
    """
    by_path = dict(iter_params(tree))
    for path, reason in iter_ignored_params(tree):
        owner = by_path.get(path[:-1])
        if owner is None or path[-1] not in field_types(type(owner)) or not of(path):
            continue
        if (value := getattr(owner, path[-1])) != field_default(type(owner), path[-1]):
            logger.warning("%s=%r has no effect: %s", ".".join(path), value, reason)


def iter_ignored_params(tree: ParamsBase) -> Iterator[tuple[ParamPath, str]]:
    """Yield the path of each parameter without effect, with the reason."""
    for path, params in iter_params(tree):
        for name, reason in {**params.ignored_params(), **dict(iter_unmet_requirements(params))}.items():
            yield (*path, *name.split(".")), reason
