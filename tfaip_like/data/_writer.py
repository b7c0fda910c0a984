"""`Writer`: how predictions are written into a file."""

from __future__ import annotations

import abc
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeAlias

from tfaip_like.data._sample import Sample
from tfaip_like.params import Params

WriteSample: TypeAlias = Callable[[Sample], None]
"""Writes one sample."""


class Writer(Params, abc.ABC):
    """Writes predicted samples."""

    @abc.abstractmethod
    def open(self, file: Path) -> AbstractContextManager[WriteSample]:
        """Opens a file and gives what writes a sample; most easily written with `contextlib.contextmanager`::

            @contextmanager
            def open(self, file):
                with file.open("w") as stream:
                    yield lambda sample: print(sample.outputs["text"], file=stream)

        Samples come one by one and in their order; there may be any number of them.

        Args:
            file: does not exist yet; it gets the name that was asked for once it is closed.
        """
