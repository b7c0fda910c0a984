"""`Params`: every noun of a scenario is a frozen dataclass whose fields are parameters."""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast, dataclass_transform, get_origin, get_type_hints

from dataclasses_json import DataClassJsonMixin, Undefined, config

from tfaip_like.errors import UsageError

if TYPE_CHECKING:
    from tfaip_like.params.values import Json

P = TypeVar("P", bound="Params")

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


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,))
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Params(DataClassJsonMixin):
    """Base of everything that has parameters.

    A subclass is a frozen, keyword-only dataclass without a decorator. Each annotated attribute is
    a parameter, the string below it is its help. Defaults may be lists, dicts or other `Params`;
    a subclass may give an inherited parameter another default without repeating its type::

        class CNN(Graph):
            filters: list[int] = [40, 20]
            \"\"\"Number of filters of each convolution.\"\"\"

    Raises:
        TypeError: when the class is made, for a public attribute that has a value but no type. A
            plain dataclass would silently not make it a parameter.
    """

    dataclass_json_config: ClassVar[Any] = config(undefined=Undefined.RAISE)["dataclasses_json"]  # type: ignore[misc]

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        _adopt_attributes(cls)
        # `repr=False` so that the `__repr__` below, which leaves defaults out, is not replaced.
        dataclasses.dataclass(frozen=True, kw_only=True, repr=False)(cls)
        for name in inspect.get_annotations(cls):
            if field := cls.__dataclass_fields__.get(name):
                _let_dataclasses_json_use_our_types(cls, field)

    def check(self) -> None:
        """Raises `FieldError` when values are out of range or contradict each other.

        Called once the whole tree is known (after file and flags), so values may be given in any
        order. See `require`.
        """

    def require(self, holds: bool, field: str, message: str) -> None:
        """Raises `FieldError(field, message)` unless `holds`."""
        if not holds:
            raise FieldError(field, message)

    def __repr__(self) -> str:
        given = (f"{name}={value!r}" for name, value in differs_from_default(self).items())
        return f"{type(self).__name__}({', '.join(given)})"

    # dataclasses-json does the work; these two add the class tag and messages that name the field.

    def to_dict(self, encode_json: bool = False) -> dict[str, Json]:
        """The tree as JSON values; the class of the root is in the key `class`."""
        return {CLASS_KEY: class_tag(type(self)), **super().to_dict(encode_json=encode_json)}

    @classmethod
    def from_dict(cls, kvs: Json, *, infer_missing: bool = False) -> Self:
        """The tree that `to_dict` wrote.

        Raises:
            UsageError: for an unknown class, an unknown or missing name, a value of a wrong type.
        """
        from tfaip_like.params.values import decode_params

        return cast(Self, decode_params((cls,), kvs))

    @classmethod
    def fields_from_dict(cls, values: Mapping[str, Json]) -> Self:
        """What dataclasses-json makes of the fields of exactly this class."""
        return super().from_dict(dict(values))


def _adopt_attributes(cls: type[Params]) -> None:
    """Makes assignments of a class body what their writer meant, before `dataclass` sees them."""
    annotations = dict(inspect.get_annotations(cls))
    inherited = {field.name: field for field in dataclasses.fields(cls)}
    for name in annotations:
        if not _is_class_var_annotation(annotations[name]) and name not in vars(cls) and name not in inherited:
            # A scenario may leave it open for its users to give by flag or file; `check_tree` insists.
            setattr(cls, name, REQUIRED)
    for name, value in list(vars(cls).items()):
        if name in annotations:
            if isinstance(value, (list, dict, set)):
                setattr(cls, name, _copied_for_each_instance(value))
        elif name in inherited:
            annotations[name] = _annotation_of(cls, name)
            if isinstance(value, (list, dict, set)):
                setattr(cls, name, _copied_for_each_instance(value))
        elif _is_forgotten_parameter(cls, name, value):
            raise TypeError(
                f"{cls.__qualname__}.{name} has a value but no type, so it would not be a parameter: "
                f"write `{name}: {type(value).__name__} = {value!r}`, "
                f"or `{name}: ClassVar[{type(value).__name__}] = ...` for a constant"
            )
    cls.__annotations__ = annotations


def _is_class_var_annotation(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.startswith(("ClassVar", "typing.ClassVar"))
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def _copied_for_each_instance(default: Any) -> Any:
    return dataclasses.field(default_factory=partial(copy.copy, default))


def _annotation_of(cls: type, name: str) -> Any:
    """The type of an inherited field, resolved where it was written (names differ per module)."""
    for base in cls.__mro__[1:]:
        if name in inspect.get_annotations(base):
            return field_types(base)[name]
    raise AssertionError(name)


def _is_forgotten_parameter(cls: type, name: str, value: Any) -> bool:
    simple = isinstance(value, (bool, int, float, str, list, tuple, dict, set, Params))
    known = any(name in vars(base) for base in cls.__mro__[1:])
    declared = any(name in inspect.get_annotations(base) for base in cls.__mro__[1:])
    return simple and not known and not declared and not name.startswith("_") and not name.isupper()


def _let_dataclasses_json_use_our_types(cls: type[Params], field: dataclasses.Field[Any]) -> None:
    """Gives dataclasses-json the same conversions that flags use (its own guess and do not check)."""

    def encoder(value: Any) -> Json:
        from tfaip_like.params.values import encode

        return encode(field_types(cls)[field.name], value)

    def decoder(value: Json) -> Any:
        from tfaip_like.params.values import decode

        try:
            return decode(field_types(cls)[field.name], value)
        except (ValueError, UsageError) as problem:
            raise UsageError(f"{field.name}: {problem}") from problem

    field.metadata = MappingProxyType(config(metadata=dict(field.metadata), encoder=encoder, decoder=decoder))


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Name -> resolved type of each parameter of `cls`, in the order of their definition.

    Raises:
        TypeError: when a type names something its module does not have.
    """
    try:
        hints = get_type_hints(cls)
    except NameError as error:
        raise TypeError(
            f"{cls.__qualname__} in {cls.__module__}: a parameter's type names {error.name!r}, "
            "which the module does not have at run time (imported under TYPE_CHECKING only?)"
        ) from error
    fields = cast(dict[str, Any], getattr(cls, "__dataclass_fields__", {}))
    return {name: hints[name] for name in fields if name in hints and not _is_class_var(fields[name])}


def _is_class_var(field: dataclasses.Field[Any]) -> bool:
    return getattr(field, "_field_type", None) is getattr(dataclasses, "_FIELD_CLASSVAR", None)


def default_of(cls: type[Params], name: str) -> Any:
    """The default of a parameter, `REQUIRED` if it has none."""
    field = cls.__dataclass_fields__[name]
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def with_defaults(cls: type[P]) -> P:
    """An instance with every default; parameters without one are `REQUIRED`."""
    return cls(**{name: default_of(cls, name) for name in field_types(cls)})


def differs_from_default(params: Params) -> dict[str, Any]:
    """The fields whose value is not their default."""
    values = {name: getattr(params, name) for name in field_types(type(params))}
    return {name: value for name, value in values.items() if value != default_of(type(params), name)}


def nested(params: Params, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Params]]:
    """Every `Params` of a tree with its path, parents first."""
    yield path, params
    for name in field_types(type(params)):
        yield from _nested_in(getattr(params, name), (*path, name))


def _nested_in(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Params]]:
    if isinstance(value, Params):
        yield from nested(value, path)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _nested_in(item, (*path, str(index)))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _nested_in(item, (*path, str(key)))


def class_tag(cls: type) -> str:
    """`module:Class`, by which a class is found again."""
    module = cls.__module__
    if module == "__main__":
        # A script that was started by its path is imported by the name of its file later on.
        spec_file = getattr(inspect.getmodule(cls), "__file__", None)
        module = inspect.getmodulename(spec_file) or module if spec_file else module
    return f"{module}:{cls.__qualname__}"
