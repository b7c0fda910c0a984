"""What all parameters have in common: their fields, defaults and places in a tree."""

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

P = TypeVar("P", bound="ParamsBase")

ParamPath: TypeAlias = tuple[str, ...]
"""Names and indices from the root of a tree to a parameter: the parts of its flag."""

CLASS_KEY = "class"
"""The key of a JSON object that names its class."""


class _Required:
    """Stands in a tree for a parameter that has no default and no value yet."""

    def __repr__(self) -> str:
        return "REQUIRED"


REQUIRED: Any = _Required()


class FieldError(ValueError):
    """A value that its class does not accept: `field` is its name in that class."""

    def __init__(self, field: str, message: str):
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class ParamsBase:
    """What the functions of this package need of a `Params`; users extend `Params` itself."""

    foreign_name_hints: ClassVar[Mapping[str, str]] = {}
    """Methods that authors know from other frameworks, and where here is what they would do."""

    def check(self) -> None:
        """Raises `FieldError` when values are out of range or contradict each other.

        Called once the whole tree is known (after file and flags), so values may be given in any
        order. See `require`.
        """

    def ignored_params(self) -> Mapping[str, str]:
        """Return the parameters that change nothing as the others are, each with the reason.

        A flag for one of them is refused; its default stays. A name may lead into a part: `val.shuffle`. See
        `tfaip_like.params._ignored_flags`.
        """
        return {}

    def require(self, holds: bool, field: str, message: str) -> None:
        """Raises `FieldError(field, message)` unless `holds`."""
        if not holds:
            raise FieldError(field, message)

    def require_finite(self) -> None:
        """Raises `FieldError` for the first value that is, or holds, NaN or infinity."""
        for name in field_types(type(self)):
            value = getattr(self, name)
            numbers = value if isinstance(value, (list, tuple)) else [value]
            is_finite = all(math.isfinite(number) for number in numbers if isinstance(number, float))
            self.require(is_finite, name, "must be a finite number")

    def require_regex(self, field: str, pattern: str) -> None:
        """Raises `FieldError` unless `pattern` is a regular expression."""
        try:
            re.compile(pattern)
        except re.error as problem:
            raise FieldError(field, f"{pattern!r} is no regular expression: {problem}") from problem

    def to_dict(self, encode_json: bool = False) -> dict[str, Json]:
        """The tree as JSON values; the class of the root is in the key `class`."""
        raise NotImplementedError

    @classmethod
    def fields_from_dict(cls, values: Mapping[str, Json]) -> Self:
        """An instance of exactly this class from the JSON values of all its fields."""
        raise NotImplementedError

    def __hash__(self) -> int:
        # Lists among the values have no hash; few instances are ever compared.
        return hash(type(self))

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in non_default_fields(self).items())
        return f"{type(self).__name__}({', '.join(given)})"


_FIELD_TYPES: WeakKeyDictionary[type, dict[str, Any]] = WeakKeyDictionary()


def field_types(cls: type) -> dict[str, Any]:
    """Name -> resolved type of each parameter of `cls`, in the order of their definition.

    Raises:
        TypeError: when a type names something its module does not have.
    """
    if cls not in _FIELD_TYPES:
        _FIELD_TYPES[cls] = _resolve_types(cls)
    return _FIELD_TYPES[cls]


def _resolve_types(cls: type) -> dict[str, Any]:
    try:
        hints = get_type_hints(cls)
    except NameError as error:
        raise TypeError(
            f"{cls.__qualname__} in {cls.__module__}: a parameter's type names {error.name!r}, "
            "which the module does not have at run time (imported under TYPE_CHECKING only?)"
        ) from error
    except (SyntaxError, TypeError, AttributeError) as error:
        said = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        raise TypeError(f"{cls.__qualname__} in {cls.__module__}: a parameter's type cannot be read: {said}") from error
    fields = cast(dict[str, Any], getattr(cls, "__dataclass_fields__", {}))
    return {name: hints[name] for name in fields if name in hints and not _is_class_var(fields[name])}


def _is_class_var(field: dataclasses.Field[Any]) -> bool:
    return getattr(field, "_field_type", None) is getattr(dataclasses, "_FIELD_CLASSVAR", None)


def field_default(cls: type[ParamsBase], name: str) -> Any:
    """The default of a parameter, `REQUIRED` if it has none."""
    field = cls.__dataclass_fields__[name]
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def default_instance(cls: type[P]) -> P:
    """An instance with every default; parameters without one are `REQUIRED`."""
    return cls(**{name: field_default(cls, name) for name in field_types(cls)})


def non_default_fields(params: ParamsBase) -> dict[str, Any]:
    """The fields whose value is not their default."""
    values = {name: getattr(params, name) for name in field_types(type(params))}
    return {name: value for name, value in values.items() if value != field_default(type(params), name)}


def iter_params(params: ParamsBase, path: ParamPath = ()) -> Iterator[tuple[ParamPath, ParamsBase]]:
    """Every `Params` of a tree with its path, parents first."""
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
    """Return `module:Class`, by which a class is found again.

    A public class of ours is named by the package that exports it, so that files stay valid when its private module
    moves.
    """
    module = _public_module(cls)
    if module == "__main__":
        # `python -m pkg.module` knows its name; a file that was started is imported by its own later on.
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        module = spec.name if spec else (inspect.getmodulename(file) if file else None) or module
    return f"{module}:{cls.__qualname__}"


def _public_module(cls: type) -> str:
    """Return the package of ours that exports a class, or the module that defines it."""
    package, _, private = cls.__module__.partition("._")
    if private and package.startswith("tfaip_like.") and getattr(sys.modules.get(package), cls.__name__, None) is cls:
        return package
    return cls.__module__
