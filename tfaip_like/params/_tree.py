"""Operations on whole parameter trees: validation, iteration and comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tfaip_like._user_code.code_errors import CodeError, attribute_frame
from tfaip_like._utils.errors import UsageError, with_article
from tfaip_like.params._base import (
    REQUIRED,
    FieldError,
    P,
    ParamPath,
    ParamsBase,
    default_instance,
    field_default,
    field_types,
    iter_params,
)
from tfaip_like.params._formatting import format_value
from tfaip_like.params._method_checks import check_methods
from tfaip_like.params._renamed import renamed_fields
from tfaip_like.params._types import (
    check_type_supported,
    dict_value_type,
    make_sequence,
    params_classes,
    sequence_item_type,
    type_metavar,
)
from tfaip_like.params._values import decode_value, encode_value


def validate_params(tree: P) -> P:
    """Check that every value of a complete tree is present, of its type, and accepted by its class.

    Returns:
        The tree with values of compatible types converted (a string for a path, 2.0 for an integer).

    Raises:
        UsageError: for the first missing or invalid value; names its flag.
    """
    normal = _convert_fields(tree, (), None)
    for path, params in iter_params(normal):
        check_methods(type(params))
        try:
            params.check()
        except FieldError as problem:
            raise UsageError(_field_error_message(params, path, problem)) from problem
    return normal


def _convert_fields(params: P, path: ParamPath, declared_in: tuple[type, str] | None) -> P:
    """Return parameters with values converted to the types of their fields.

    Args:
        params: parameters to convert.
        path: their path in the tree.
        declared_in: class and attribute whose value they are; None for the root.
    """
    changes = {}
    for name, tp in field_types(type(params)).items():
        value, here = getattr(params, name), (*path, name)
        declared = (type(params), name)
        try:
            check_type_supported(tp)
            if value is REQUIRED:
                raise UsageError(f"{path_to_flag(here)} is required ({type_metavar(tp)})")
            converted = _convert_value(tp, value, here, declared)
        except UsageError:
            raise
        except (ValueError, TypeError) as problem:  # flags and files were checked before, so code set it
            is_default = declared_in is None or repr(value) == repr(field_default(*declared))
            line = attribute_frame(*declared) if is_default or declared_in is None else attribute_frame(*declared_in)
            raise CodeError(f"{path_to_flag(here)}: {problem}", line) from problem
        if converted is not value:
            changes[name] = converted
    return dataclasses.replace(params, **changes) if changes else params


def _convert_value(tp: Any, value: Any, path: ParamPath, declared_in: tuple[type, str]) -> Any:
    """Return `value` converted to a type; the same object if it already has it."""
    if value is REQUIRED:
        raise UsageError(f"{path_to_flag(path)} is required ({type_metavar(tp)})")
    if isinstance(value, type):
        raise ValueError(f"expected an instance, got class {value.__name__}; did you mean {value.__name__}()?")
    if params_classes(tp) and not isinstance(value, (*params_classes(tp), type(None))):
        bases = " or ".join(base.__name__ for base in params_classes(tp))
        raise ValueError(f"expected {with_article(bases)}, got {with_article(type(value).__name__)}")
    if isinstance(value, ParamsBase):
        if not params_classes(tp):
            raise ValueError(f"expected {type_metavar(tp)}, got {with_article(type(value).__name__)}")
        return _convert_fields(value, path, declared_in)
    if isinstance(value, (list, tuple)) and (
        (value and params_classes(sequence_item_type(tp) or type(None)))
        or any(isinstance(item, ParamsBase) for item in value)
    ):
        item_type = sequence_item_type(tp)
        if item_type is None:
            raise ValueError(f"expected {type_metavar(tp)}, got {value!r}")
        return make_sequence(
            tp, [_convert_value(item_type, v, (*path, str(i)), declared_in) for i, v in enumerate(value)]
        )
    if isinstance(value, dict) and any(isinstance(item, ParamsBase) or item is REQUIRED for item in value.values()):
        return {
            key: _convert_value(dict_value_type(tp), item, (*path, str(key)), declared_in)
            for key, item in value.items()
        }
    decoded = decode_value(tp, encode_value(tp, value))
    return value if repr(decoded) == repr(value) else decoded


def _field_error_message(params: ParamsBase, path: ParamPath, problem: FieldError) -> str:
    """Return the message for a value that its class rejects; `problem.field` may refer to a nested parameter."""
    parts = tuple(problem.field.split("."))
    owner: Any = params
    for part in parts[:-1]:
        owner = getattr(owner, part, None)
    types = field_types(type(owner)) if isinstance(owner, ParamsBase) else {}
    if parts[-1] not in types:
        return f"{path_to_flag((*path, *parts))}: {problem.message}"
    words = format_value(types[parts[-1]], getattr(owner, parts[-1]))
    return f"{path_to_flag((*path, *parts))} {words}: {problem.message}"


@dataclass(frozen=True)
class Leaf:
    """Parameter of a tree with its current value."""

    path: ParamPath
    type: Any
    value: Any
    owner: type[ParamsBase]

    @property
    def flag(self) -> str:
        return path_to_flag(self.path)

    @property
    def is_variant(self) -> bool:
        """Return whether the value is itself a parameter tree."""
        return isinstance(self.value, ParamsBase) or bool(params_classes(self.type))


def iter_leaves(tree: ParamsBase, path: ParamPath = ()) -> Iterator[Leaf]:
    """Yield every parameter of a tree with its current value; a variant precedes its parameters."""
    for name, tp in field_types(type(tree)).items():
        value = getattr(tree, name)
        here = (*path, name)
        yield Leaf(here, tp, value, type(tree))
        for part, part_value in _iter_items(value):
            if isinstance(part_value, ParamsBase):
                yield from iter_leaves(part_value, (*here, *part))


def _iter_items(value: Any) -> Iterator[tuple[ParamPath, Any]]:
    if isinstance(value, ParamsBase):
        yield (), value
    elif isinstance(value, (list, tuple)):
        yield from (((str(index),), item) for index, item in enumerate(value))
    elif isinstance(value, dict):
        yield from (((str(key),), item) for key, item in value.items())


def diff_params(old: ParamsBase, new: ParamsBase) -> list[tuple[str, str, str]]:
    """Return (flag, old value, new value) for the flags whose values differ; values are words, `-` if absent."""
    before, after = (
        {leaf.flag: format_value(leaf.type, leaf.value) for leaf in iter_leaves(tree)} for tree in (old, new)
    )
    flags = [*before, *(flag for flag in after if flag not in before)]
    changes = [(flag, before.get(flag, "-"), after.get(flag, "-")) for flag in flags]
    return [change for change in changes if change[1] != change[2]]


def non_default_flags(tree: ParamsBase) -> dict[str, str]:
    """Return the flags whose values differ from the defaults of the root's class, with their values as words."""
    return {flag: new for flag, _, new in diff_params(default_instance(type(tree)), tree)}


def current_path(tree: ParamsBase, path: ParamPath) -> ParamPath:
    """Return a path of a tree with the former names of parameters replaced by the current ones."""
    current: ParamPath = ()
    value: Any = tree
    for part in path:
        if isinstance(value, ParamsBase):
            renamed = renamed_fields(type(value))
            part = renamed[part].name if part in renamed else part
            value = getattr(value, part, None)
        else:
            value = next((item for item_path, item in _iter_items(value) if item_path == (part,)), None)
        current = (*current, part)
    return current


def path_to_flag(path: ParamPath) -> str:
    """Return the flag of a path of the tree."""
    return "--" + ".".join(path)


def flag_to_path(flag: str) -> ParamPath:
    """Return the path of the tree of a flag: the inverse of `path_to_flag`."""
    return tuple(flag.removeprefix("--").split("."))
