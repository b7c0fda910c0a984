"""Record the fields of all file formats: `python tests/record_file_formats.py`.

The record is rejected if the fields of a format have changed and its version has not.
`--unreleased` records them nevertheless: no release has written such files yet.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any, get_args, get_type_hints, is_typeddict

from tfaip_like._utils.file_formats import FileFormat

PACKAGE = Path(__file__).parent.parent / "tfaip_like"
RECORD = Path(__file__).parent / "file_formats.json"


def all_formats() -> dict[str, FileFormat[Any]]:
    """Return all file formats of the package by name."""
    found: dict[str, FileFormat[Any]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        if "FileFormat(" in path.read_text():
            module = importlib.import_module(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts))
            for value in vars(module).values():
                if isinstance(value, FileFormat):
                    assert found.setdefault(value.name, value) is value, f"two formats are named {value.name}"
    return found


def describe(tp: Any) -> dict[str, dict[str, str]]:
    """Return the annotations of a type and of all types in its fields, by the name of the type."""
    if not is_typeddict(tp) and not (isinstance(tp, type) and dataclasses.is_dataclass(tp)):
        return {name: fields for part in get_args(tp) for name, fields in describe(part).items()}
    hints = get_type_hints(tp, include_extras=True)
    classes = [tp] if is_typeddict(tp) else tp.__mro__[::-1]
    sources = {name: source for cls in classes for name, source in _annotations(cls).items()}
    found = {tp.__name__: {name: f"{sources[name]}{_suffix(tp, name)}" for name in sorted(hints)}}
    for hint in hints.values():
        found |= describe(hint)
    return found


def _annotations(cls: type) -> dict[str, str]:
    found = inspect.get_annotations(cls)
    return {name: getattr(one, "__forward_arg__", getattr(one, "__name__", one)) for name, one in found.items()}


def _suffix(tp: Any, name: str) -> str:
    if is_typeddict(tp):
        return " (optional)" if name in tp.__optional_keys__ else ""
    field = next(field for field in dataclasses.fields(tp) if field.name == name)
    return "" if _is_required(field) else " (optional)"


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def record_formats() -> dict[str, Any]:
    """Return the record of all formats."""
    return {
        name: {"version": one.version, "types": describe(one.content)} for name, one in sorted(all_formats().items())
    }


def main() -> None:
    """Write the record."""
    before, now = json.loads(RECORD.read_text()) if RECORD.exists() else {}, record_formats()
    for name in before:
        if name in now and before[name] != now[name] and before[name]["version"] == now[name]["version"]:
            message = f"{name}: its fields changed; raise its version and register a migration (or --unreleased)"
            if "--unreleased" not in sys.argv:
                sys.exit(message)
    RECORD.write_text(json.dumps(now, indent=1) + "\n")


if __name__ == "__main__":
    main()
