"""`Params`: base class of configuration objects, frozen dataclasses whose fields are parameters."""

from __future__ import annotations

import abc
import copy
import dataclasses
import inspect
import json
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast, dataclass_transform, get_origin

from tfaip_like._user_code.code_errors import CodeError, function_frame
from tfaip_like._utils.code_origin import register_author_package
from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json
from tfaip_like.params._base import CLASS_KEY, REQUIRED, ParamsBase, field_types, qualified_name
from tfaip_like.params._plain_types import is_plain_value
from tfaip_like.params._renamed import accept_former_names
from tfaip_like.params._values import decode_params, decode_value, encode_value

if TYPE_CHECKING:
    from dataclasses_json import DataClassJsonMixin


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(dataclasses.field,))
@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Params(ParamsBase, abc.ABC):
    """Base class of configuration objects.

    A subclass is a frozen, keyword-only dataclass without a decorator. Each annotated attribute is a parameter; the
    string below it is its help text. Defaults may be lists, dicts or other `Params`. A subclass may override an
    inherited default without repeating the type.

    Raises:
        TypeError: at class creation, for a public attribute with a value but no type, which a plain dataclass would
            silently not make a field.

    Example:
        >>> class CNN(Params):
        ...     filters: list[int] = [40, 20]
        ...     '''Number of filters of each convolution.'''
        >>> CNN(filters=[8])
        CNN(filters=[8])
    """

    resources: ClassVar[tuple[str, ...]] = ()
    """Names of path parameters whose files are copied into exports."""

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        register_author_package(cls.__module__)
        _normalize_class_attributes(cls)
        cls.__hash__ = ParamsBase.__hash__  # type: ignore[method-assign]  # or `dataclass` would replace it
        # `repr=False` so that the `__repr__` below, which leaves defaults out, is not replaced.
        dataclasses.dataclass(frozen=True, kw_only=True, repr=False)(cls)
        accept_former_names(cls)
        for name in inspect.get_annotations(cls):
            if field := cls.__dataclass_fields__.get(name):
                _register_json_codec(cls, field)

    # dataclasses-json encodes and decodes; these methods add the class tag and messages that name the field. Its mixin
    # is not a base class, because importing it takes as long as importing NumPy, which `--help` need not wait for.

    def to_dict(self, encode_json: bool = False) -> dict[str, Json]:
        """Return the tree as JSON values; the key `class` holds the class of the root.

        Args:
            encode_json: passed to dataclasses-json.
        """
        values = _json_mixin().to_dict(cast(Any, self), encode_json=encode_json)
        return {CLASS_KEY: qualified_name(type(self)), **values}

    def to_json(self, **options: Any) -> str:
        """Return the tree as JSON.

        Args:
            options: options of `json.dumps`, such as `indent`.
        """
        return _json_mixin().to_json(cast(Any, self), **options)

    @classmethod
    def from_dict(cls, kvs: Json, *, infer_missing: bool = False) -> Self:
        """Decode a tree that `to_dict` encoded.

        Args:
            kvs: JSON object; the key `class` may name a subclass.
            infer_missing: ignored; missing parameters have their defaults.

        Raises:
            UsageError: for an unknown class, an unknown or missing parameter, or a value of the wrong type.
        """
        return cast(Self, decode_params((cls,), kvs))

    @classmethod
    def from_json(cls, text: str | bytes, **options: Any) -> Self:
        """Decode JSON that `to_json` returned.

        Args:
            text: JSON object.
            options: options of `json.loads`.

        Raises:
            UsageError: for an unknown class, an unknown or missing parameter, or a value of the wrong type.
        """
        return cls.from_dict(json.loads(text, **options))

    @classmethod
    def fields_from_dict(cls, values: Mapping[str, Json]) -> Self:
        """Make an instance of exactly this class from the JSON values of all its fields."""
        from_dict: Any = _json_mixin().from_dict
        return cast(Self, from_dict.__func__(cls, dict(values)))


def _json_mixin() -> type[DataClassJsonMixin]:
    from dataclasses_json import DataClassJsonMixin

    return DataClassJsonMixin


def _normalize_class_attributes(cls: type[Params]) -> None:
    """Convert the assignments of a class body into dataclass fields, before `dataclass` processes the class.

    Raises:
        TypeError: for an attribute that clashes with a base class, or has a value but no type.
        CodeError: for a class that defines `__init__`.
    """
    annotations = dict(inspect.get_annotations(cls))
    inherited = {field.name: field for field in dataclasses.fields(cls)}
    for name in annotations:
        if not _is_class_var_annotation(annotations[name]) and name not in vars(cls) and name not in inherited:
            # A scenario may leave it to a flag or file; `validate_params` requires a value.
            setattr(cls, name, REQUIRED)
    if "__init__" in vars(cls):
        raise CodeError(
            f"{cls.__qualname__}.__init__: Params classes must not define __init__; declare parameters in the class "
            "body (units: int = 3) and create layers in `build`",
            function_frame(vars(cls)["__init__"]),
        )
    for name in annotations:
        for base in cls.__mro__[1:]:
            hidden = vars(base).get(name)
            if callable(hidden) or isinstance(hidden, property):
                hint = f"write `{name} = ...` without a type" if isinstance(hidden, property) else "choose another name"
                raise TypeError(f"{cls.__qualname__}.{name}: {base.__name__} has a method of this name; {hint}")
            constant = inspect.get_annotations(base).get(name)
            if _is_class_var_annotation(constant) and not _is_class_var_annotation(annotations[name]):
                raise TypeError(
                    f"{cls.__qualname__}.{name}: {base.__name__} has a constant of this name; write `{name} = ...` "
                    "without a type"
                )
    for name, value in list(vars(cls).items()):
        if name in inherited and name not in annotations and (callable(value) or isinstance(value, property)):
            raise TypeError(f"{cls.__qualname__}.{name} overrides a parameter of a base class with a method")
        if name in annotations:
            if isinstance(value, (list, dict, set)) and not _is_class_var_annotation(annotations[name]):
                setattr(cls, name, _mutable_default(value))
        elif name in inherited:
            annotations[name] = _inherited_annotation(cls, name)
            if isinstance(value, (list, dict, set)):
                setattr(cls, name, _mutable_default(value))
        elif _is_missing_annotation(cls, name, value):
            raise TypeError(
                f"{cls.__qualname__}.{name} has no type annotation, so it would not be a parameter: "
                f"write `{name}: {type(value).__name__} = {value!r}`, "
                f"or `{name}: ClassVar[{type(value).__name__}] = ...` for a constant"
            )
    cls.__annotations__ = annotations


def _is_class_var_annotation(annotation: Any) -> bool:
    if isinstance(annotation, str):
        return annotation.startswith(("ClassVar", "typing.ClassVar"))
    return annotation is ClassVar or get_origin(annotation) is ClassVar


def _mutable_default(default: Any) -> Any:
    return dataclasses.field(default_factory=partial(copy.copy, default))


def _inherited_annotation(cls: type, name: str) -> Any:
    """Return the type of an inherited field, resolved in the module that defines it."""
    for base in cls.__mro__[1:]:
        if name in inspect.get_annotations(base):
            return field_types(base)[name]
    raise AssertionError(name)


def _is_missing_annotation(cls: type, name: str, value: Any) -> bool:
    simple = value is not None and (is_plain_value(value) or isinstance(value, (list, tuple, dict, set, Params)))
    known = any(name in vars(base) for base in cls.__mro__[1:])
    declared = any(name in inspect.get_annotations(base) for base in cls.__mro__[1:])
    return simple and not known and not declared and not name.startswith("_") and not name.isupper()


def _register_json_codec(cls: type[Params], field: dataclasses.Field[Any]) -> None:
    """Register the conversions that flags use with dataclasses-json, whose own do not check types."""

    def encoder(value: Any) -> Json:
        return encode_value(field_types(cls)[field.name], value)

    def decoder(value: Json) -> Any:
        try:
            return decode_value(field_types(cls)[field.name], value)
        except ValueError as problem:
            raise UsageError(f"{field.name}: {problem}") from problem

    # What `dataclasses_json.config` returns.
    field.metadata = MappingProxyType({**field.metadata, "dataclasses_json": {"encoder": encoder, "decoder": decoder}})
