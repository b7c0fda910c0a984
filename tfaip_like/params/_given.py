"""Values that a person gave by flag and that would change nothing.

`ParamsBase.without_effect` says which parameters change nothing as the others are. Only what was given is refused:
defaults, and values of a file that holds all of them, are not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tfaip_like._utils.errors import UsageError
from tfaip_like.params._apply import Resolved
from tfaip_like.params._base import ParamsBase, Place, default_of, field_types, nested
from tfaip_like.params._formatting import format_words
from tfaip_like.params._tree import flag_of, leaves

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """The values that flags gave, as words by their places."""

    words: Mapping[Place, str]

    @classmethod
    def by_flags(cls, resolved: Resolved) -> Given:
        """Return what flags gave; not what files did."""
        values = {leaf.place: format_words(leaf.type, leaf.value) for leaf in leaves(resolved.tree)}
        return cls({place: values.get(place, "") for place, origin in resolved.origins.items() if origin == "flag"})

    def refuse(self, place: Place, reason: str) -> None:
        """Refuse the value of a place, or the first one below it, if it was given.

        Args:
            place: that has no effect.
            reason: why, and what to do.

        Raises:
            UsageError: names the flag.
        """
        for given in self._flags_below(place):
            raise UsageError(f"{given}: has no effect: {reason}")

    def warn(self, place: Place, reason: str) -> None:
        """Warn of the value of a place that has no effect, if it was given and changes no number of a run."""
        for given in self._flags_below(place):
            logger.warning("%s: has no effect: %s", given, reason)

    def _flags_below(self, place: Place) -> Iterator[str]:
        for given, words in self.words.items():
            if given[: len(place)] == place:
                yield " ".join(filter(None, [flag_of(given), words]))

    def refuse_changed(self, before: ParamsBase, after: ParamsBase, by: str) -> None:
        """Refuse a given value that a scenario has replaced by another.

        Args:
            by: what has replaced it.

        Raises:
            UsageError: names the flag and the value that took its place.
        """
        old, new = ({leaf.place: format_words(leaf.type, leaf.value) for leaf in leaves(t)} for t in (before, after))
        for place in self.words:
            if place in old and old[place] != new.get(place):
                instead = new.get(place, "something without it")
                self.refuse(place, f"{by} makes it {instead}; leave it out")


NOTHING_GIVEN = Given({})


def check_given(tree: ParamsBase, given: Given) -> None:
    """Refuse the first value that was given and has no effect.

    Raises:
        UsageError: names the flag and the reason.
    """
    for place, reason in without_effect(tree):
        given.refuse(place, reason)


def warn_of_no_effect(tree: ParamsBase, of: Callable[[Place], bool] = lambda place: True) -> None:
    """Warn of values that have no effect and are no defaults of their class: from Python code, or from files.

    Args:
        of: whether a place is of interest.
    """
    by_place = dict(nested(tree))
    for place, reason in without_effect(tree):
        owner = by_place.get(place[:-1])
        if owner is None or place[-1] not in field_types(type(owner)) or not of(place):
            continue
        if (value := getattr(owner, place[-1])) != default_of(type(owner), place[-1]):
            logger.warning("%s=%r has no effect: %s", ".".join(place), value, reason)


def without_effect(tree: ParamsBase) -> Iterator[tuple[Place, str]]:
    """Yield the places whose values change nothing as the others are, each with the reason."""
    for place, params in nested(tree):
        for name, reason in params.without_effect().items():
            yield (*place, *name.split(".")), reason
