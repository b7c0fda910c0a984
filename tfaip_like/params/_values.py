"""Conversion of typed values from command-line words and JSON, and to JSON. See `_formatting` for values to words.

All functions take the resolved type of a parameter. An invalid value raises `ValueError` with a text that can follow
the name of a flag: ``expected an integer, got 'x'``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin

from tfaip_like._utils.errors import UsageError
from tfaip_like._utils.json_files import Json, short_json
from tfaip_like._utils.yaml_files import PlainScalar
from tfaip_like.params._base import CLASS_KEY, REQUIRED, ParamsBase, field_default, field_types
from tfaip_like.params._plain_types import (
    NONE_TYPE,
    QUOTABLE_TYPES,
    encode_plain_value,
    find_plain_type,
    strictness,
)
from tfaip_like.params._renamed import current_names
from tfaip_like.params._types import (
    SEQUENCE_TYPES,
    describe_type,
    dict_value_type,
    is_fixed_tuple,
    is_multi_valued,
    is_optional,
    params_classes,
    sequence_item_type,
    type_metavar,
    union_members,
)
from tfaip_like.params._variants import find_variant, is_abstract, variant_names

NEGATIVE_NUMBER = re.compile(r"-(\d|\.\d|inf$|nan$)")
"""Start of a word that has a leading dash and is a value."""


# Command-line words.


def parse_value(tp: Any, words: Sequence[str]) -> Any:
    """Parse command-line words into a value of a type.

    Args:
        tp: resolved type of the parameter.
        words: words after the flag.

    Raises:
        ValueError: if the words are not a value of the type.
    """
    if len(words) == 1 and (value := _parse_json_word(tp, words[0])) is not None:
        return decode_value(tp, value)
    return _convert_to_first_member(tp, lambda member: _parse_member(member, words), _quote_words(words))


def _convert_to_first_member(tp: Any, convert: Callable[[Any], Any], shown: str) -> Any:
    """Return what `convert` makes of the first type of a union that it accepts, strictest first.

    Args:
        tp: type or union of types.
        convert: conversion to a type; raises `ValueError` if the value is not of this type.
        shown: the value, for messages.

    Raises:
        ValueError: if the value is of none of the types.
    """
    problems = []
    for member in sorted(union_members(tp), key=strictness):
        try:
            return convert(member)
        except UsageError:
            raise
        except ValueError as problem:
            if member is not NONE_TYPE:
                problems.append(problem)
    if len(problems) == 1:
        raise problems[0]
    raise ValueError(f"expected {type_metavar(tp)}, got {shown}")


def _parse_member(tp: Any, words: Sequence[str]) -> Any:
    origin = get_origin(tp)
    if (
        [word.lower() for word in words] == ["none"]
        and origin in (*SEQUENCE_TYPES, dict)
        and str not in get_args(tp)[:1]
    ):
        words = []
    if origin is dict:
        value_type = get_args(tp)[1]
        pairs = [_split_pair(word) for word in words]
        repeated = [key for key, _ in pairs if [k for k, _ in pairs].count(key) > 1]
        if repeated:
            raise ValueError(f"duplicate key {repeated[0]!r}")
        return {key: parse_value(value_type, [value]) for key, value in pairs}
    if is_fixed_tuple(tp):
        item_types = get_args(tp)
        if len(words) != len(item_types):
            raise ValueError(f"expected {len(item_types)} values ({type_metavar(tp)}), got {len(words)}")
        return tuple(parse_value(item_type, [word]) for item_type, word in zip(item_types, words, strict=True))
    if origin in SEQUENCE_TYPES:
        return SEQUENCE_TYPES[origin](parse_value(get_args(tp)[0], [word]) for word in words)
    if not words:
        if tp is bool:
            return True
        raise ValueError(f"expected {describe_type(tp)}, got nothing")
    if len(words) > 1:
        raise ValueError(f"expected one value, got {len(words)}: {' '.join(words)}; quote a value with spaces")
    return _parse_word(tp, words[0])


def _parse_word(tp: Any, word: str) -> Any:
    if (plain := find_plain_type(tp)) is not None:
        return plain.parse(word)
    raise ValueError(f"expected {describe_type(tp)}, got {word!r}")


def _split_pair(word: str) -> tuple[str, str]:
    key, equals, value = word.partition("=")
    if not equals:
        raise ValueError(f"expected NAME=VALUE, got {word!r}")
    return key, value


def _parse_json_word(tp: Any, word: str) -> Json:
    """Parse a word as JSON; return None if it is not JSON, for example a regular expression.

    Accepts lists and mappings of any depth, and quoted strings if the type is a union in which the bare word would
    mean another member: for `int | str`, `"3"` with its quotes is a string.
    """
    members = [find_plain_type(member) for member in union_members(tp)]
    may_be_text = len(members) > 1 and any(plain is not None and plain.is_text for plain in members)
    if word[:1] not in (*(("[", "{") if is_multi_valued(tp) else ()), *('"' if may_be_text else ())):
        return None
    try:
        value: Json = json.loads(word)
    except (ValueError, RecursionError):
        return None
    return value


# JSON.


def decode_value(tp: Any, value: Json) -> Any:
    """Convert a JSON value into a value of a type.

    Args:
        tp: resolved type of the parameter.
        value: JSON value.

    Raises:
        ValueError: if it is not a value of the type.
    """
    if isinstance(value, dict) and (bases := params_classes(tp)):
        return decode_params(bases, value)
    if isinstance(value, PlainScalar):
        return parse_value(tp, [value])
    quotable = [kind for kind in QUOTABLE_TYPES if kind in union_members(tp)]
    try:
        return _convert_to_first_member(tp, lambda member: _decode_member(member, value), short_json(value))
    except UsageError:
        raise
    except ValueError:
        if not quotable or not isinstance(value, str):
            raise
    return _parse_word(quotable[0], value)


def _decode_member(tp: Any, value: Json) -> Any:
    origin = get_origin(tp)
    if origin is dict and isinstance(value, dict):
        value_type = get_args(tp)[1]
        return {key: decode_value(value_type, item) for key, item in value.items()}
    if is_fixed_tuple(tp) and isinstance(value, list) and len(value) == len(get_args(tp)):
        return tuple(decode_value(item_type, item) for item_type, item in zip(get_args(tp), value, strict=True))
    if origin in SEQUENCE_TYPES and not is_fixed_tuple(tp) and isinstance(value, list):
        return SEQUENCE_TYPES[origin](decode_value(get_args(tp)[0], item) for item in value)
    if (plain := find_plain_type(tp)) is not None:
        return plain.decode(value)
    raise ValueError(f"expected {describe_type(tp)}, got {short_json(value)}")


def decode_params(bases: tuple[type[ParamsBase], ...], value: Json) -> ParamsBase:
    """Decode the `Params` of a JSON object.

    Args:
        bases: allowed base classes; the key `class` may be omitted if there is one and it is not abstract.
        value: JSON object.

    Raises:
        UsageError: for an unknown class, an unknown or missing parameter, or a value of the wrong type.
    """
    if not isinstance(value, dict):
        names = " or ".join(base.__name__ for base in bases)
        raise UsageError(f"expected an object with the parameters of {names}, got {short_json(value)}")
    values = dict(value)
    tag = values.pop(CLASS_KEY, None)
    if tag is not None and not isinstance(tag, str):
        raise UsageError(f"{CLASS_KEY}: expected a class name, got {short_json(tag)}")
    try:
        cls = bases[0] if tag is None else find_variant(bases, tag)
    except UsageError as error:
        raise type(error)(f"{CLASS_KEY}: {error}") from error
    if is_abstract(cls) or (tag is None and len(bases) > 1):
        raise UsageError(f'missing "{CLASS_KEY}"; choose one of {", ".join(variant_names(*bases))}')
    current = current_names(cls, values, lambda name: f"{cls.__name__}.{name}")
    values = {current[given]: item for given, item in values.items()}
    for name in values:
        if name not in field_types(cls):
            raise UsageError(f"{cls.__name__} has no parameter {name!r}; available: {', '.join(field_types(cls))}")
    for name, tp in field_types(cls).items():
        if name not in values:
            default = field_default(cls, name)
            if default is REQUIRED:
                raise UsageError(f"{cls.__name__} requires the parameter {name!r}")
            values[name] = encode_value(tp, default)
        elif values[name] is None and not is_optional(tp):
            # dataclasses-json only warns.
            raise UsageError(f"{name}: expected {type_metavar(tp)}, got null")
    return cls.fields_from_dict(values)


def encode_value(tp: Any, value: Any) -> Json:
    """Convert a value into the JSON value that `decode_value` converts back.

    Args:
        tp: resolved type of the parameter.
        value: its value.

    Raises:
        UsageError: if a required parameter in it has no value.
        ValueError: if a fixed-length tuple has the wrong length.
    """
    if isinstance(value, ParamsBase):
        declared = params_classes(tp)
        encoded = value.to_dict()
        if declared == (type(value),):
            del encoded[CLASS_KEY]  # the default class when decoding
        return encoded
    if isinstance(value, dict):
        value_type = dict_value_type(tp)
        return {key: encode_value(value_type, item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        fixed = next((get_args(member) for member in union_members(tp) if is_fixed_tuple(member)), None)
        if fixed is not None and len(fixed) != len(value):
            raise ValueError(f"expected {len(fixed)} values ({type_metavar(tp)}), got {len(value)}")
        item_types = fixed or [sequence_item_type(tp)] * len(value)
        encoded_items = [encode_value(item_type, item) for item_type, item in zip(item_types, value, strict=True)]
        return sorted(encoded_items, key=str) if isinstance(value, (set, frozenset)) else encoded_items
    if value is REQUIRED:
        raise UsageError("a required parameter has no value")
    return encode_plain_value(value)


def _quote_words(words: Sequence[str]) -> str:
    return " ".join(repr(word) for word in words) or "nothing"
