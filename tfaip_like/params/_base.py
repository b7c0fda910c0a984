"""Fields, defaults and tree paths common to all parameter classes."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Self, TypeAlias, TypeVar, cast, get_type_hints
from weakref import WeakKeyDictionary

from tfaip_like._utils.json_files import Json
from tfaip_like.params._renamed import Renamed, renamed_fields

P = TypeVar("P", bound="ParamsBase")

ParamPath: TypeAlias = tuple[str, ...]
"""Field names and indices from the root of a tree to a parameter: the components of its flag."""

CLASS_KEY = "class"
"""Key of the class name in a JSON object."""

SCHEMA_KEY = "$schema"
"""The key of a parameter file that names its JSON Schema, for editors."""


class _Required:
    """Placeholder for a parameter that has neither a default nor a value."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()
"""Value of a parameter that has no default and was not given; replaced before a tree is validated."""


class FieldError(ValueError):
    """Invalid value of a parameter.

    Args:
        field: name of the parameter in its class.
        message: what is wrong with the value.

    Example:
        >>> raise FieldError("rate", "must be positive")
        Traceback (most recent call last):
        tfaip_like.params._base.FieldError: rate: must be positive
    """

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ParamsBase:
    """Interface that this package needs of a `Params`; users extend `Params`."""

    search_words: ClassVar[Mapping[str, str]] = {}
    """Names that parameters have in other frameworks, separated by spaces: `{"n_to_go": "patience"}`. A mistyped flag
    is looked up among them, and `--help WORD` finds them."""

    renamed_fields: ClassVar[Mapping[str, Renamed]] = {}
    """Former names of parameters, with their current ones: `{"num_units": Renamed("units", until="2.0")}`. Flags, files
    and Python accept a former name with a warning; help does not list it."""

    plugin_group: ClassVar[str] = ""
    """Group of entry points by which installed packages add variants of this class; empty if they cannot."""

    foreign_name_hints: ClassVar[Mapping[str, str]] = {}
    """Method names of other frameworks, each with the equivalent here."""

    def check(self) -> None:
        """Raise `FieldError` if a value is out of range or values contradict each other.

        Called on the complete tree, after files and flags. See `require`.

        Raises:
            FieldError: names the parameter and what is wrong.
        """

    def ignored_params(self) -> Mapping[str, str]:
        """Return the parameters without effect, given the values of the others, each with the reason.

        Flags for them are errors. A name may refer to a nested parameter: `val.shuffle`. See
        `tfaip_like.params._ignored_flags`.
        """
        return {}

    def require(self, condition: bool, field: str, message: str) -> None:
        """Raise `FieldError` unless a condition holds.

        Args:
            condition: the condition.
            field: name of the parameter in this class.
            message: what is wrong, as it follows the flag and value: "must be at least 1".

        Raises:
            FieldError: if `condition` is false.
        """
        if not condition:
            raise FieldError(field, message)

    def require_finite(self) -> None:
        """Raise `FieldError` for the first field that is or contains NaN or infinity.

        Raises:
            FieldError: names the field.
        """
        for name in field_types(type(self)):
            value = getattr(self, name)
            numbers = value if isinstance(value, (list, tuple)) else [value]
            is_finite = all(math.isfinite(number) for number in numbers if isinstance(number, float))
            self.require(is_finite, name, "must be a finite number")

    def require_regex(self, field: str, pattern: str) -> None:
        """Raise `FieldError` unless `pattern` is a regular expression.

        Args:
            field: name of the parameter in this class.
            pattern: its value.

        Raises:
            FieldError: says where the pattern is invalid.
        """
        try:
            re.compile(pattern)
        except re.error as problem:
            raise FieldError(field, f"{pattern!r} is not a regular expression: {problem}") from problem

    def to_dict(self, encode_json: bool = False) -> dict[str, Json]:
        """Return the tree as JSON values; the key `class` holds the class of the root."""
        raise NotImplementedError

    @classmethod
    def fields_from_dict(cls, values: Mapping[str, Json]) -> Self:
        """Make an instance of exactly this class from the JSON values of all its fields."""
        raise NotImplementedError

    def __hash__(self) -> int:
        # Lists among the values have no hash; few instances are ever compared.
        return hash(type(self))

    def __repr__(self) -> str:
        arguments = (f"{name}={value!r}" for name, value in non_default_fields(self).items())
        return f"{type(self).__name__}({', '.join(arguments)})"


_FIELD_TYPES: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()


def field_types(cls: type) -> dict[str, Any]:
    """Return the resolved types of the parameters of `cls` by name, in definition order.

    Raises:
        TypeError: if a type cannot be resolved in its module.
    """
    if cls not in _FIELD_TYPES:
        _FIELD_TYPES[cls] = _resolve_types(cls)
    return _FIELD_TYPES[cls]


def _resolve_types(cls: type) -> dict[str, Any]:
    try:
        hints = get_type_hints(cls)
    except NameError as error:
        raise TypeError(
            f"{cls.__qualname__} in {cls.__module__}: the type of a parameter refers to {error.name!r}, "
            "which is undefined at run time (imported under TYPE_CHECKING only?)"
        ) from error
    except (SyntaxError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise TypeError(
            f"{cls.__qualname__} in {cls.__module__}: cannot resolve the type of a parameter: {reason}"
        ) from error
    fields = cast(dict[str, Any], getattr(cls, "__dataclass_fields__", {}))
    return {name: hints[name] for name in fields if name in hints and not _is_class_var(fields[name])}


def _is_class_var(field: dataclasses.Field[Any]) -> bool:
    return getattr(field, "_field_type", None) is getattr(dataclasses, "_FIELD_CLASSVAR", None)


def get_search_words(cls: type[ParamsBase], field: str) -> list[str]:
    """Return the names that a field of a class has in other frameworks, and its former names."""
    words = [word for base in cls.__mro__ for word in vars(base).get("search_words", {}).get(field, "").split()]
    return [*words, *(former for former, new in renamed_fields(cls).items() if new.name == field)]


def field_default(cls: type[ParamsBase], name: str) -> Any:
    """Return the default of a parameter, `REQUIRED` if it has none."""
    field = cls.__dataclass_fields__[name]
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def default_instance(cls: type[P]) -> P:
    """Make an instance with all defaults; parameters without one are `REQUIRED`."""
    return cls(**{name: field_default(cls, name) for name in field_types(cls)})


def non_default_fields(params: ParamsBase) -> dict[str, Any]:
    """Return the fields whose value differs from their default."""
    values = {name: getattr(params, name) for name in field_types(type(params))}
    return {name: value for name, value in values.items() if value != field_default(type(params), name)}


def iter_params(params: ParamsBase, path: ParamPath = ()) -> Iterator[tuple[ParamPath, ParamsBase]]:
    """Yield every `Params` of a tree with its path, parents first."""
    yield path, params
    for name in field_types(type(params)):
        yield from _iter_params_in(getattr(params, name), (*path, name))


def _iter_params_in(value: Any, path: ParamPath) -> Iterator[tuple[ParamPath, ParamsBase]]:
    if isinstance(value, ParamsBase):
        yield from iter_params(value, path)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _iter_params_in(item, (*path, str(index)))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _iter_params_in(item, (*path, str(key)))


def qualified_name(cls: type) -> str:
    """Return `module:Class`, the name under which a class can be imported.

    A public class of this package is named by the subpackage that exports it, so files stay valid if its private
    module moves.
    """
    module = _public_module(cls)
    if module == "__main__":
        # `python -m pkg.module` knows its module name; a script is later imported by its file name.
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        module = spec.name if spec else (inspect.getmodulename(file) if file else None) or module
    return f"{module}:{cls.__qualname__}"


def _public_module(cls: type) -> str:
    """Return the subpackage that exports a class of this package, else the module that defines the class."""
    package, _, private = cls.__module__.partition("._")
    if private and package.startswith("tfaip_like.") and getattr(sys.modules.get(package), cls.__name__, None) is cls:
        return package
    return cls.__module__
