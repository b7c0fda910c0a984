"""JSON Schema of parameter trees: editors complete and check parameter files with it.

The dialect is draft 2020-12 (https://json-schema.org/draft/2020-12).
"""

from __future__ import annotations

from typing import Any, get_args, get_origin

from tfaip_like.params._base import (
    CLASS_KEY,
    REQUIRED,
    SCHEMA_KEY,
    ParamsBase,
    field_default,
    field_types,
    qualified_name,
)
from tfaip_like.params._docs import class_summary, field_docs
from tfaip_like.params._plain_types import find_plain_type
from tfaip_like.params._renamed import renamed_fields
from tfaip_like.params._types import (
    is_fixed_tuple,
    is_optional,
    params_classes,
    union_members,
)
from tfaip_like.params._values import encode_value
from tfaip_like.params._variants import available_variants, is_abstract, variant_names

DIALECT = "https://json-schema.org/draft/2020-12/schema"
QUALIFIED_NAME = r"^[\w.]+:[\w.]+$"
"""A class by `module:Class`."""

Schema = dict[str, Any]


def json_schema(tree: ParamsBase) -> Schema:
    """Return the JSON Schema of the parameter files of a tree.

    Every key is optional, since a file may set any part of the tree. A variant is an object with its class in the key
    `class`, or the name of its class alone.

    Args:
        tree: the parameters with their defaults, which the schema states.

    Returns:
        The schema as JSON values.

    Example:
        >>> from tfaip_like import Params
        >>> class Net(Params):
        ...     units: int = 8
        >>> json_schema(Net())["properties"]["units"]
        {'type': 'integer', 'default': 8}
    """
    definitions = Definitions()
    root = definitions.object_schema(type(tree), tree)
    root["properties"] |= {SCHEMA_KEY: {"type": "string"}, CLASS_KEY: {"const": qualified_name(type(tree))}}
    return {SCHEMA_KEY: DIALECT, "title": type(tree).__name__, **root, "$defs": definitions.schemas}


class Definitions:
    """Schemas of the classes of a tree, each defined once.

    Attributes:
        schemas: the schema of each class, by `module:Class`.
    """

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def object_schema(self, cls: type[ParamsBase], values: ParamsBase | None = None) -> Schema:
        """Return the schema of an object with parameters of a class.

        Args:
            cls: class of the parameters.
            values: instance with the defaults of the schema; by default those of the class.
        """
        docs = field_docs(cls)  # type: ignore[arg-type]  # mypy takes the hash of instances for that of the class
        properties: Schema = {}
        for name, tp in field_types(cls).items():
            default = field_default(cls, name) if values is None else getattr(values, name)
            properties[name] = self.value_schema(tp, default) | _annotations(tp, docs.get(name), default)
        for former, new in renamed_fields(cls).items():
            properties[former] = {**properties[new.name], "deprecated": True}
        described = {"description": text} if (text := class_summary(cls)) else {}
        return {"type": "object", **described, "properties": properties, "additionalProperties": False}

    def value_schema(self, tp: Any, default: Any = REQUIRED) -> Schema:
        """Return the schema of a value of a type.

        Args:
            tp: type of the value.
            default: current value, whose class may be omitted in a file.
        """
        if bases := params_classes(tp):
            return self._variant_schema(bases, is_optional(tp), default)
        alternatives = [self._plain_schema(member) for member in union_members(tp)]
        return alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}

    def _variant_schema(self, bases: tuple[type[ParamsBase], ...], may_be_none: bool, default: Any) -> Schema:
        """Return the schema of a value of one of several classes, which its key `class` or its text names."""
        names = available_variants(*bases)
        usual = type(default) if isinstance(default, ParamsBase) else None
        if usual is None and len(bases) == 1 and not is_abstract(bases[0]):
            usual = bases[0]
        chosen: Schema = {"type": "string", "anyOf": [{"enum": variant_names(*bases)}, {"pattern": QUALIFIED_NAME}]}
        conditions = [
            {"if": _class_is(name, qualified_name(cls)), "then": {"$ref": self._reference(cls)}}
            for name, cls in names.items()
        ]
        if usual is not None:
            conditions.append(
                {"if": {"type": "object", "not": {"required": [CLASS_KEY]}}, "then": {"$ref": self._reference(usual)}}
            )
        schema: Schema = {
            "type": ["string", "object", *(["null"] if may_be_none else [])],
            "properties": {CLASS_KEY: chosen},
            "if": {"type": "string"},
            "then": chosen,
        }
        if conditions:
            schema["allOf"] = conditions
        if usual is None:
            schema["required"] = [CLASS_KEY]
        return schema

    def _reference(self, cls: type[ParamsBase]) -> str:
        tag = qualified_name(cls)
        if tag not in self.schemas:
            self.schemas[tag] = {}  # a class may hold itself
            schema = self.object_schema(cls)
            schema["properties"][CLASS_KEY] = {"type": "string"}
            self.schemas[tag] = schema
        return f"#/$defs/{tag}"

    def _plain_schema(self, tp: Any) -> Schema:
        """Return the schema of a type that is not a union and holds no variants itself."""
        origin, args = get_origin(tp), get_args(tp)
        if (plain := find_plain_type(tp)) is not None:
            return dict(plain.schema)
        if origin is dict:
            return {"type": "object", "additionalProperties": self.value_schema(args[1])}
        if is_fixed_tuple(tp):
            items = [self.value_schema(item) for item in args]
            return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
        return {"type": "array", "items": self.value_schema(args[0])}


def _class_is(*names: str) -> Schema:
    return {"type": "object", "required": [CLASS_KEY], "properties": {CLASS_KEY: {"enum": [*dict.fromkeys(names)]}}}


def _annotations(tp: Any, text: str | None, default: Any) -> Schema:
    described = {"description": text} if text else {}
    return described if default is REQUIRED else {**described, "default": encode_value(tp, default)}
