"""Search for the attribute that makes an object unpicklable, for error messages."""

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
    """Attribute that cannot be pickled."""

    owner: type
    name: str

    @property
    def frame(self) -> Frame | None:
        """Return the line of user code that assigns the attribute, or else the class definition."""
        definition = definition_frame(self.owner)
        if definition is None:
            return None
        lines, first = inspect.getsourcelines(self.owner)
        assigns = re.compile(rf"\b{self.name}\b(:[^=]*)?\s*=[^=]")
        numbers = [number for number, line in enumerate(lines, first) if assigns.search(line)]
        return make_frame(definition.filename, numbers[-1], self.owner.__qualname__) if numbers else definition


def find_unpicklable(value: Any, depth: int = MAX_DEPTH) -> UnpicklableAttribute | None:
    """Return the innermost unpicklable attribute of an object; None if its attributes are not the cause."""
    attributes = getattr(value, "__dict__", {})
    for name, attribute in attributes.items() if depth else ():
        if not _is_picklable(attribute):
            return find_unpicklable(attribute, depth - 1) or UnpicklableAttribute(type(value), name)
    return None


class _NullWriter:
    def write(self, data: bytes) -> int:
        return len(data)


def _is_picklable(value: Any) -> bool:
    try:
        pickle.Pickler(_NullWriter(), protocol=5, buffer_callback=lambda buffer: None).dump(value)  # copies no arrays
    except Exception:  # __reduce__ of any class may raise anything
        return False
    return True
