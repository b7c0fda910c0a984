"""Plain types of parameters, and what it takes to add one."""

from __future__ import annotations

from datetime import date
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator

from tfaip_like import Params, UsageError
from tfaip_like.params import _plain_types
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file
from tfaip_like.params._files import read_param_file, write_params
from tfaip_like.params._flags import settings_from_flags, tokenize
from tfaip_like.params._help import format_groups, group_flags
from tfaip_like.params._plain_types import PLAIN_TYPES, PlainType, encode_plain_value, format_plain_value
from tfaip_like.params._schema import json_schema
from tfaip_like.params._tree import non_default_flags, validate_params
from tfaip_like.params._values import decode_value, parse_value


class Color(Enum):
    RED = "r"


class Level(IntEnum):
    LOW = 1


VALUES = [
    (type(None), None, "none"),
    (Literal["a", 2], 2, "2"),
    (Color, Color.RED, "RED"),
    (Level, Level.LOW, "LOW"),
    (int, 10**400, "1" + 400 * "0"),
    (float, float("-inf"), "-inf"),
    (bool, True, "true"),
    (Path, Path("~/x"), "./~/x"),
    (str, " none", " none"),
]


def test_the_examples_have_a_value_of_every_type() -> None:
    assert {next(kind for kind in PLAIN_TYPES if kind.matches(tp)) for tp, *_ in VALUES} == {*PLAIN_TYPES}


@pytest.mark.parametrize(("tp", "value", "word"), VALUES)
def test_values_survive_words_and_json_and_fit_their_schema(tp: Any, value: Any, word: str) -> None:
    plain = _plain_types.find_plain_type(tp)
    assert plain is not None
    assert format_plain_value(value) == word
    for restored in (parse_value(tp, [word]), decode_value(tp, encode_plain_value(value))):
        assert restored == value
        assert type(restored) is type(value)
    assert not list(Draft202012Validator(dict(plain.schema)).iter_errors(encode_plain_value(value)))


class Date(PlainType):
    """Plain type as a contributor would add it."""

    name, value_class = "date", date
    metavar, description = "DATE", "a date such as 2024-01-31"
    schema = {"type": "string", "format": "date"}

    def parse(self, word: str) -> date:
        try:
            return date.fromisoformat(word)
        except ValueError:
            raise self.make_error(repr(word)) from None

    @staticmethod
    def encode(value: date) -> str:
        return value.isoformat()


class Recording(Params):
    """Parameters with the new type."""

    days: list[date] = []
    """Days of the recording."""

    until: date | None = None
    """Last day."""


@pytest.fixture
def _with_dates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_plain_types, "PLAIN_TYPES", (Date, *PLAIN_TYPES))


@pytest.mark.usefixtures("_with_dates")
def test_a_type_in_the_table_works_in_flags_files_help_and_schema(tmp_path: Path) -> None:
    recording = parse("--days", "2024-01-31", "2024-02-01", "--until", "2024-12-31")
    assert recording == Recording(days=[date(2024, 1, 31), date(2024, 2, 1)], until=date(2024, 12, 31))
    assert validate_params(recording) == recording
    assert non_default_flags(recording) == {"--days": "2024-01-31 2024-02-01", "--until": "2024-12-31"}
    write_params(recording, tmp_path / "params.json")
    values = read_param_file(tmp_path / "params.json")
    assert apply_settings(ResolvedParams(Recording()), settings_from_file(values, "params.json")).tree == recording
    Draft202012Validator(json_schema(Recording())).validate(values)
    assert "--until DATE | none" in format_groups(group_flags(Recording()).values())
    with pytest.raises(UsageError, match="--days: expected a date such as 2024-01-31, got 'today'"):
        parse("--days", "today")


def parse(*words: str) -> Params:
    """Return the parameters that flags set."""
    return apply_settings(ResolvedParams(Recording()), settings_from_flags(tokenize(words)[1])).tree
