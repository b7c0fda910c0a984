"""What keeps an object from being sent to another process, for a message."""

from __future__ import annotations

import inspect
import pickle
import re
from dataclasses import dataclass
from typing import Any

from tfaip_like._user_code.code_errors import Frame, definition_frame, make_frame

MAX_DEPTH = 6


@dataclass(frozen=True)
class UnpicklableAttribute:
    """An attribute that cannot be sent."""

    owner: type
    name: str

    @property
    def frame(self) -> Frame | None:
        """Return the user's line that assigns the attribute, or their class."""
        found = definition_frame(self.owner)
        if found is None:
            return None
        lines, first = inspect.getsourcelines(self.owner)
        assigns = re.compile(rf"\b{self.name}\b(:[^=]*)?\s*=[^=]")
        numbers = [number for number, line in enumerate(lines, first) if assigns.search(line)]
        return make_frame(found.filename, numbers[-1], self.owner.__qualname__) if numbers else found


def find_unpicklable(value: Any, depth: int = MAX_DEPTH) -> UnpicklableAttribute | None:
    """Return the innermost attribute of an object that cannot be pickled; None if it is none of its attributes."""
    attributes = getattr(value, "__dict__", {})
    for name, part in attributes.items() if depth else ():
        if not _is_picklable(part):
            return find_unpicklable(part, depth - 1) or UnpicklableAttribute(type(value), name)
    return None


class _NullWriter:
    def write(self, data: bytes) -> int:
        return len(data)


def _is_picklable(value: Any) -> bool:
    try:
        pickle.Pickler(_NullWriter(), protocol=5, buffer_callback=lambda buffer: None).dump(value)  # copies no arrays
    except Exception:  # of any object
        return False
    return True
