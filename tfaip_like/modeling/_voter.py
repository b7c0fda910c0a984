"""`Voter`: one prediction of those of several networks."""

from __future__ import annotations

import abc
from collections.abc import Sequence

from tfaip_like.data._sample import Arrays
from tfaip_like.params import Params


class Voter(Params, abc.ABC):
    """Makes one prediction of those of several networks."""

    @abc.abstractmethod
    def vote(self, outputs: Sequence[Arrays]) -> Arrays:
        """The common outputs of a batch, from the outputs of each network for it."""
