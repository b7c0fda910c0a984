"""What keeps an object from being sent to another process, for a message."""

from __future__ import annotations

import inspect
import pickle
import re
from dataclasses import dataclass
from typing import Any

from tfaip_like._user_code.code_errors import Frame, definition, frame_at

MAX_DEPTH = 6


@dataclass(frozen=True)
class Unsendable:
    """An attribute that cannot be sent."""

    owner: type
    name: str

    @property
    def frame(self) -> Frame | None:
        """Return the user's line that assigns the attribute, or their class."""
        found = definition(self.owner)
        if found is None:
            return None
        lines, first = inspect.getsourcelines(self.owner)
        assigns = re.compile(rf"\b{self.name}\b(:[^=]*)?\s*=[^=]")
        numbers = [number for number, line in enumerate(lines, first) if assigns.search(line)]
        return frame_at(found.filename, numbers[-1], self.owner.__qualname__) if numbers else found


def find_unsendable(value: Any, depth: int = MAX_DEPTH) -> Unsendable | None:
    """Return the innermost attribute of an object that cannot be pickled; None if it is none of its attributes."""
    attributes = getattr(value, "__dict__", {})
    for name, part in attributes.items() if depth else ():
        if not _can_be_pickled(part):
            return find_unsendable(part, depth - 1) or Unsendable(type(value), name)
    return None


class _Nowhere:
    def write(self, data: bytes) -> int:
        return len(data)


def _can_be_pickled(value: Any) -> bool:
    try:
        pickle.Pickler(_Nowhere(), protocol=5, buffer_callback=lambda buffer: None).dump(value)  # copies no arrays
    except Exception:  # of any object
        return False
    return True
