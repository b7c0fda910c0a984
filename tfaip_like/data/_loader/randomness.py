"""Random generators per sample and processor."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np


class PerSampleRng:
    """Random generators that depend only on the seed, the row of the sample and the stage.

    Philox (Salmon et al., Parallel Random Numbers: As Easy as 1, 2, 3, 2011) is a function of a key and a counter:
    the key is (seed, pass), the counter starts at (0, stage, index, repeat). One generator is repositioned, which takes
    a seventh of the time of creating one (4 microseconds), and only when it is used.
    """

    def __init__(self, seed: int):
        self._bits = np.random.Philox(0)
        self._generator = Generator(self._bits)
        self._state: dict[str, Any] = dict(self._bits.state)
        self._seed = seed

    def generator_for(self, row: tuple[int, int, int], stage: int) -> np.random.Generator:
        """Return the generator of a row (pass, index, repeat) and a stage; valid until the next call."""
        self._generator.set_position = partial(self._set_position, row, stage)
        self._generator.__class__ = _UnpositionedGenerator
        return self._generator

    def __reduce__(self) -> Any:
        return type(self), (self._seed,)

    def _set_position(self, row: tuple[int, int, int], stage: int) -> None:
        data_pass, index, repeat = row
        self._state["state"] = {
            "key": np.array([self._seed, data_pass], dtype=np.uint64),
            "counter": np.array([0, stage, index, repeat], dtype=np.uint64),
        }
        self._state["buffer_pos"] = 4  # discard buffered values of the previous position
        self._state["has_uint32"] = 0
        self._bits.state = self._state  # type: ignore[assignment]


class Generator(np.random.Generator):
    """NumPy's generator, with a position that may still have to be set; it has its name in messages."""

    set_position: Callable[[], None]


class _UnpositionedGenerator(Generator):
    """Generator that sets its position on the first access; by changing its class, which keeps later ones fast."""

    def __getattribute__(self, name: str) -> Any:
        object.__setattr__(self, "__class__", Generator)
        self.set_position()
        return getattr(self, name)


class RngUsageDetector(PerSampleRng):
    """Random generators that detect whether they are used."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.reset()

    def reset(self) -> None:
        """Reset the detection."""
        self._first_stage_using_rng: int | None = None
        self._stage: int | None = None
        self._position_before = b""

    def generator_for(self, row: tuple[int, int, int], stage: int) -> np.random.Generator:
        self._detect_use()
        self._set_position(row, stage)
        self._stage, self._position_before = stage, self._position()
        return self._generator

    def first_stage_using_rng(self) -> int | None:
        """Return the first stage that used its generator; None if none did."""
        self._detect_use()
        return self._first_stage_using_rng

    def _detect_use(self) -> None:
        if (
            self._first_stage_using_rng is None
            and self._stage is not None
            and self._position() != self._position_before
        ):
            self._first_stage_using_rng = self._stage

    def _position(self) -> bytes:
        state = self._bits.state
        return bytes(state["state"]["counter"].tobytes()) + bytes([state["buffer_pos"], state["has_uint32"]])
