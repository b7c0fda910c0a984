"""What is shown of a value can be typed behind its flag, and gives the same value."""

from __future__ import annotations

import re
import shlex
import subprocess
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tfaip_like import Params, UsageError
from tfaip_like._report.formatting import format_flag_value as report_words
from tfaip_like._utils.escaping import shell_join
from tfaip_like._utils.json_files import format_json
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file
from tfaip_like.params._base import field_types
from tfaip_like.params._files import read_param_file
from tfaip_like.params._flags import settings_from_flags, tokenize
from tfaip_like.params._formatting import format_flag, value_to_words
from tfaip_like.params._help import format_resolved_params
from tfaip_like.params._tree import diff_params
from tfaip_like.params._values import parse_value


class Color(Enum):
    """Colours; the value of one is the name of another."""

    RED = "GREEN"
    GREEN = "RED"


class Everything(Params):
    """A parameter of every type."""

    text: str = ""
    text_or_none: str | None = None
    number_or_text: int | str = 0
    path: Path = Path("x")
    path_or_none: Path | None = None
    flag: bool = False
    flag_or_none: bool | None = None
    number: int = 0
    rate: float = 0.0
    rate_or_none: float | None = None
    color: Color = Color.RED
    kind: Literal["a", "none", 3] = "a"
    texts: list[str] = []
    texts_or_none: list[str] | None = None
    numbers: tuple[int, ...] = ()
    pair: tuple[str, float] = ("", 0.0)
    nested: list[list[int]] = []
    nested_texts: list[list[str]] = []
    paths: list[Path] = []
    mapping: dict[str, str] = {}
    mapping_of_lists: dict[str, list[int]] = {}
    optional_items: list[int | None] = []
    unique: set[str] = set()


# Words that mean something else in some place.
ODD = [
    *[
        "none",
        "None",
        "true",
        "3",
        "1e3",
        "-x",
        "--flag",
        "-1",
        "[1]",
        "{}",
        '"a"',
        "a b",
        "a=b",
        "=",
        "",
        "'",
        "$HOME",
    ],
    *["'", "~", "*", "a,b", "#", "\n", "\udcff", "010", "no", "null", "ü", "u\u0308"],
]
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6) | st.sampled_from(ODD)
INTS, FLOATS = st.integers(-(10**20), 10**20), st.floats()
PATHS = TEXTS.filter(bool).map(Path)
VALUES = {
    "text": TEXTS,
    "text_or_none": TEXTS | st.none(),
    "number_or_text": INTS | TEXTS,
    "path": PATHS,
    "path_or_none": PATHS | st.none(),
    "flag": st.booleans(),
    "flag_or_none": st.booleans() | st.none(),
    "number": INTS,
    "rate": FLOATS,
    "rate_or_none": FLOATS | st.none(),
    "color": st.sampled_from(Color),
    "kind": st.sampled_from(["a", "none", 3]),
    "texts": st.lists(TEXTS, max_size=3),
    "texts_or_none": st.lists(TEXTS, max_size=3) | st.none(),
    "numbers": st.lists(INTS, max_size=3).map(tuple),
    "pair": st.tuples(TEXTS, FLOATS),
    "nested": st.lists(st.lists(INTS, max_size=2), max_size=2),
    "nested_texts": st.lists(st.lists(TEXTS, max_size=2), max_size=2),
    "paths": st.lists(PATHS, max_size=2),
    "mapping": st.dictionaries(TEXTS, TEXTS, max_size=2),
    "mapping_of_lists": st.dictionaries(TEXTS, st.lists(INTS, max_size=2), max_size=2),
    "optional_items": st.lists(INTS | st.none(), max_size=2),
    "unique": st.sets(TEXTS, max_size=2),
}


def are_equal(one: Params, other: Params) -> bool:
    return format_json(one.to_dict()) == format_json(other.to_dict())


def parse_words(*words: str) -> Everything:
    tree = apply_settings(ResolvedParams(Everything()), settings_from_flags(tokenize(words)[1])).tree
    assert isinstance(tree, Everything)
    return tree


def test_the_advice_for_a_value_that_begins_with_a_dash_can_be_pasted() -> None:
    with pytest.raises(UsageError, match=re.escape("to pass it as a value, write '--text=-- x'")):
        tokenize(["--text", "-- x"])


@given(st.fixed_dictionaries(VALUES))
@example({name: getattr(Everything(), name) for name in VALUES})
def test_output_of_show_can_be_pasted(values: dict[str, Any]) -> None:
    tree = Everything(**values)
    plain = {name: value for name, value in values.items() if "$'" not in format_of(name, value)}
    lines = [format_of(name, value) for name, value in plain.items()]
    assert are_equal(parse_words(*shlex.split(" ".join(lines))), Everything(**plain))
    words = [word for name, value in values.items() for word in format_flag_words(name, value)]
    assert are_equal(parse_words(*words), tree)


def format_of(name: str, value: Any) -> str:
    return format_flag(f"--{name}", TYPES[name], value)


def format_flag_words(name: str, value: Any) -> list[str]:
    words = value_to_words(TYPES[name], value)
    alone = len(words) == 1 and words[0].startswith("-")
    return [f"--{name}={words[0]}"] if alone else [f"--{name}", *words]


TYPES = field_types(Everything)


@given(values=st.fixed_dictionaries(VALUES))
def test_a_file_of_parameters_gives_the_same_values(
    values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = Everything(**values)
    for name in ("p.json", "p.yaml"):  # JSON is YAML
        file = tmp_path_factory.getbasetemp() / name
        file.write_text(format_json(tree.to_dict()))
        read = apply_settings(ResolvedParams(Everything()), settings_from_file(read_param_file(file), name)).tree
        assert are_equal(read, tree)


@given(st.lists(TEXTS, max_size=3) | st.lists(st.lists(INTS, max_size=2), max_size=2) | INTS | FLOATS | st.booleans())
def test_values_in_tables_and_reports_can_be_parsed(value: Any) -> None:
    tp = {bool: bool, int: int, float: float}.get(type(value)) or (
        list[list[int]] if value and isinstance(value[0], list) else list[str]
    )
    shown = report_words(value)
    if "$'" not in shown:
        assert format_json(parse_value(tp, shlex.split(shown))) == format_json(value)


def test_a_shell_reads_what_is_shown() -> None:
    words = [
        "a b",
        "",
        "line\nline",
        "tab\t'quote'",
        "back\\slash\n",
        "\udcff",
        '$HOME `x` "y"',
        "ü€😀\x1b[1m",
        "-x",
        "*",
        "[1]",
    ]
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {shell_join(words)}"], capture_output=True, check=True)
    assert [part.decode("utf-8", "surrogateescape") for part in done.stdout.split(b"\0")[:-1]] == words


def test_a_difference_between_runs_is_shown_as_flags_that_can_be_typed() -> None:
    changes = diff_params(Everything(), Everything(nested=[[1], [2, 3]], texts=["a b", "c"], text_or_none="none"))
    assert changes == [
        ("--text_or_none", "none", "'\"none\"'"),
        ("--texts", "'[]'", "'a b' c"),
        ("--nested", "'[]'", "'[[1], [2, 3]]'"),
    ]
    assert parse_words("--nested", "[[1], [2, 3]]", "--text_or_none", '"none"').nested == [[1], [2, 3]]
    assert "--texts=" not in format_resolved_params(ResolvedParams(Everything(texts=["-a"])))
