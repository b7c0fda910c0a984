"""Parameter trees: definition, flags, files, round trips."""

from __future__ import annotations

import abc
import json
import math
import re
import shlex
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfaip_like import Params, Scenario, UsageError
from tfaip_like.params import REQUIRED
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file
from tfaip_like.params._base import default_instance
from tfaip_like.params._docs import field_docs
from tfaip_like.params._files import read_param_file, write_params
from tfaip_like.params._flags import settings_from_flags, tokenize
from tfaip_like.params._formatting import format_value
from tfaip_like.params._help import (
    complete_words,
    format_groups,
    format_resolved_params,
    format_search_results,
    group_flags,
)
from tfaip_like.params._python_names import errors_name_arguments, flags_to_arguments
from tfaip_like.params._tree import diff_params, iter_leaves, non_default_flags, validate_params
from tfaip_like.params._values import decode_value, encode_value, parse_value
from tfaip_like.params._variants import available_variants, find_variant
from tfaip_like.settings import Resume, Trainer


class Color(Enum):
    RED = "r"
    BLUE = "b"


class Part(Params, abc.ABC):
    """A part."""

    @abc.abstractmethod
    def size(self) -> int: ...


class Small(Part):
    """A small part."""

    width: int = 3
    """How wide."""

    def size(self) -> int:
        return self.width


class Large(Part):
    """A large part."""

    widths: list[int] = [4, 5]
    """How wide, layer by layer."""

    inner: Part = Small()
    """What is inside."""

    def size(self) -> int:
        return sum(self.widths)


class Wide(Small):
    width = 30


class Root(Params):
    """All kinds of parameters."""

    flag: bool = False
    """Yes or no."""

    count: int = 1
    """How many."""

    rate: float = 0.5
    """How fast."""

    name: str = "x"
    """What it is called."""

    file: Path | None = None
    """Where it is."""

    color: Color = Color.RED
    """Which color."""

    kind: Literal["a", "b", 3] = "a"
    """Which kind."""

    pair: tuple[int, float] = (1, 2.0)
    """Two numbers."""

    many: tuple[int, ...] = ()
    """Any number of numbers."""

    names: list[str] = []
    """Some names."""

    weights: dict[str, float] = {}
    """Weights by name."""

    number_or_name: int | str = 1
    """Either."""

    part: Part = Small()
    """A part."""

    maybe: Part | None = None
    """A part, perhaps."""

    parts: list[Part] = []
    """Several parts."""

    named_parts: dict[str, Part] = {}
    """Parts by name."""


class Needs(Params):
    """A required parameter."""

    path: Path
    """Where."""


class Holder(Params):
    """Leaves it open."""

    needs: Needs = Needs()  # type: ignore[call-arg]


def flags(*words: str, root: type[Params] = Root) -> Any:
    _, given_flags = tokenize(words)
    tree = apply_settings(ResolvedParams(default_instance(root)), settings_from_flags(given_flags)).tree
    validate_params(tree)
    return tree


# Definition.


def test_a_subclass_is_a_frozen_dataclass_with_keywords_only() -> None:
    assert Root(count=3).count == 3
    with pytest.raises(AttributeError):
        Root().count = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        Root(3)  # type: ignore[misc]


def test_lists_as_defaults_are_not_shared() -> None:
    assert Large().widths is not Large().widths


def test_a_default_without_a_type_changes_the_inherited_parameter() -> None:
    assert Wide().width == 30
    assert Wide(width=4).width == 4
    assert Small().width == 3
    assert field_docs(Wide)["width"] == "How wide."


def test_a_new_value_without_a_type_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"Wrong.width has no type annotation.*`width: int = 3`"):

        class Wrong(Params):
            width = 3


def test_constants_functions_and_properties_are_not_parameters() -> None:
    class Fine(Params):
        LIMIT = 3
        _private = 4
        width: int = 5

        @property
        def double(self) -> int:
            return 2 * self.width

    assert [leaf.flag for leaf in iter_leaves(Fine())] == ["--width"]


def test_a_parameter_without_a_default_is_required_at_the_end() -> None:
    assert default_instance(Needs).path is REQUIRED
    assert flags("--needs.path", "x", root=Holder).needs.path == Path("x")
    with pytest.raises(UsageError, match=r"--needs.path is required \(PATH\)"):
        flags(root=Holder)


def test_the_representation_shows_what_differs_from_the_defaults() -> None:
    assert repr(Root(count=3, part=Large(inner=Wide()))) == "Root(count=3, part=Large(inner=Wide()))"


# Flags.


def test_flags_in_any_order_make_the_same_tree() -> None:
    expected = Root(part=Large(widths=[1, 2], inner=Wide(width=7)))
    words = [["--part.widths", "1", "2"], ["--part", "Large"], ["--part.inner.width", "7"], ["--part.inner", "Wide"]]
    for order in (words, words[::-1], [words[i] for i in (2, 0, 3, 1)]):
        assert flags(*(word for group in order for word in group)) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--flag", Root(flag=True)),
        ("--flag true", Root(flag=True)),
        ("--flag=no", Root()),
        ("--count -3", Root(count=-3)),
        ("--count 1e3", Root(count=1000)),
        ("--rate -1e-3", Root(rate=-1e-3)),
        ("--rate .5e1", Root(rate=5.0)),
        ("--name=--strange", Root(name="--strange")),
        ("--name=", Root(name="")),
        ("--file a/b", Root(file=Path("a/b"))),
        ("--file none", Root()),
        ("--color BLUE", Root(color=Color.BLUE)),
        ("--color b", Root(color=Color.BLUE)),
        ("--kind 3", Root(kind=3)),
        ("--pair 4 5", Root(pair=(4, 5.0))),
        ("--many 4 5 6", Root(many=(4, 5, 6))),
        ("--many", Root(many=())),
        ("--many [7,8]", Root(many=(7, 8))),
        ("--names a b", Root(names=["a", "b"])),
        ("--weights a=1 b=2e-1", Root(weights={"a": 1.0, "b": 0.2})),
        ("--weights.a 1", Root(weights={"a": 1.0})),
        ("--number_or_name 7", Root(number_or_name=7)),
        ("--number_or_name seven", Root(number_or_name="seven")),
        ("--maybe Large --maybe.widths.1 9", Root(maybe=Large(widths=[4, 9]))),
        ("--maybe none", Root()),
        (
            "--parts Small Large --parts.1.inner Wide --parts.0.width 8",
            Root(parts=[Small(width=8), Large(inner=Wide())]),
        ),
        ("--named_parts a=Small --named_parts.a.width 6", Root(named_parts={"a": Small(width=6)})),
        (f"--part {__name__}:Large", Root(part=Large())),
    ],
)
def test_words_become_values(words: str, expected: Root) -> None:
    assert flags(*words.split(" ")) == expected


def test_a_flag_that_chooses_the_variant_again_keeps_its_values() -> None:
    tree = Root(part=Small(width=8))
    _, again = tokenize(["--part", "Small"])
    assert apply_settings(ResolvedParams(tree), settings_from_flags(again)).tree == tree


def test_check_runs_after_all_values_are_set() -> None:
    class Range(Params):
        low: int = 0
        high: int = 1

        def check(self) -> None:
            self.require(self.low < self.high, "low", "must be below high")

    assert flags("--low", "5", "--high", "6", root=Range) == Range(low=5, high=6)
    with pytest.raises(UsageError, match=r"--low 5: must be below high"):
        flags("--low", "5", root=Range)


def test_a_wrong_value_given_in_python_is_found_too() -> None:
    with pytest.raises(UsageError, match="--count: expected an integer"):
        validate_params(Root(count="three"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="--part: expected"):
        validate_params(Root(part=Root()))  # type: ignore[arg-type]


# Files.


def test_flags_override_files_and_files_override_defaults(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("count: 5\nrate: 1e-4\npart: {class: Large, widths: [7]}\n")
    values = read_param_file(tmp_path / "p.yaml")
    resolved = apply_settings(ResolvedParams(Root()), settings_from_file(values, "p.yaml"))
    resolved = apply_settings(resolved, settings_from_flags(tokenize(["--count", "6", "--part.inner", "Wide"])[1]))
    assert resolved.tree == Root(count=6, rate=1e-4, part=Large(widths=[7], inner=Wide()))
    shown = format_resolved_params(resolved)
    assert "--count 6" in shown
    origins = {line.split()[0]: line.split("# ")[1] for line in shown.splitlines()}
    assert origins["--count"] == "flag"
    assert origins["--rate"] == origins["--part"] == origins["--part.widths"] == "file p.yaml"
    assert origins["--part.inner"] == "flag"
    assert origins["--part.inner.width"] == origins["--name"] == "default"


def test_a_flag_that_chooses_another_variant_starts_from_its_defaults() -> None:
    resolved = apply_settings(
        ResolvedParams(Root()), settings_from_file({"part": {"class": "Large", "widths": [7]}}, "p.json")
    )
    resolved = apply_settings(resolved, settings_from_flags(tokenize(["--part", "Small"])[1]))
    assert resolved.tree == Root()
    assert resolved.origins == {("part",): "flag"}


def test_a_variant_may_be_typed_in_lower_case() -> None:
    assert flags("--part", "large") == Root(part=Large())
    with pytest.raises(UsageError, match="did you mean Large"):
        flags("--part", "larg")


def test_output_of_show_can_be_parsed() -> None:
    tree = Root(count=3, part=Large(widths=[1]), names=["a", "b"], weights={"a": 1.0}, flag=True)
    words = shlex.split(format_resolved_params(ResolvedParams(tree)), comments=True)
    assert flags(*words) == tree


@given(st.data())
def test_trees_survive_json_files_and_flags(data: st.DataObject) -> None:
    text = st.text(st.characters(codec="utf-8"), max_size=8)
    plain = st.text("abcxyz_./0", min_size=1, max_size=8)
    numbers = st.floats(allow_nan=False)
    small = st.builds(Small, width=st.integers())
    part: Any = st.recursive(
        small | st.builds(Wide, width=st.integers()),
        lambda inner: st.builds(Large, widths=st.lists(st.integers(), max_size=3), inner=inner),
        max_leaves=3,
    )
    tree = data.draw(
        st.builds(
            Root,
            flag=st.booleans(),
            count=st.integers(),
            rate=numbers,
            name=text,
            file=st.none() | plain.map(Path),
            color=st.sampled_from(Color),
            kind=st.sampled_from(["a", "b", 3]),
            pair=st.tuples(st.integers(), numbers),
            many=st.lists(st.integers(), max_size=3).map(tuple),
            names=st.lists(text, max_size=3),
            weights=st.dictionaries(text, numbers, max_size=2),
            number_or_name=st.integers() | plain,
            part=part,
            maybe=st.none() | part,
            parts=st.lists(part, max_size=2),
            named_parts=st.dictionaries(text, part, max_size=2),
        )
    )
    assert Root.from_json(tree.to_json()) == tree
    assert Root.from_dict(json.loads(json.dumps(tree.to_dict()))) == tree
    assert apply_settings(ResolvedParams(Root()), settings_from_file(tree.to_dict(), "p.json")).tree == tree
    validate_params(tree)


@given(st.integers() | st.floats(allow_nan=False) | st.booleans() | st.none())
def test_formatted_values_are_parsed_as_the_same_value(value: Any) -> None:
    tp = int | float | bool | None if not isinstance(value, bool) else bool
    again = parse_value(tp, [format_value(tp, value)])
    assert again == value
    assert decode_value(tp, encode_value(tp, value)) == value


def test_infinity_survives_json() -> None:
    assert Root.from_json(Root(rate=math.inf).to_json()).rate == math.inf
    json.loads(Root(rate=math.inf).to_json(), parse_constant=pytest.fail)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cuont": 3}, "Root has no parameter 'cuont'"),
        ({"count": "x"}, "count: expected an integer, got 'x'"),
        ({"count": True}, "count: expected an integer, got true"),
        ({"count": None}, "count: expected INT, got null"),
        ({"part": {"width": 3}}, 'part: missing "class"; choose one of'),
        ({"part": {"class": "os:system"}}, "part: class: os:system: os has no Params class 'system'"),
        ({"part": {"class": "tfaip_like.settings:Device"}}, "part: class: tfaip_like.settings:Device is not a Part"),
        ({"part": 3}, "part: expected an object|part: expected"),
        ({"pair": [1]}, "pair: expected INT FLOAT"),
    ],
)
def test_a_broken_file_is_rejected_with_the_name_of_the_value(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Root.from_dict(values)


def test_a_class_in_a_file_is_only_ever_a_class_of_parameters(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"part": {"class": "subprocess:Popen", "args": "touch x"}}')
    with pytest.raises(UsageError, match="subprocess has no Params class 'Popen'"):
        apply_settings(ResolvedParams(Root()), settings_from_file(read_param_file(tmp_path / "p.json"), "p.json"))


def test_a_parameter_file_is_written_atomically(tmp_path: Path) -> None:
    write_params(Root(count=3), tmp_path / "params.json")
    assert Root.from_dict(read_param_file(tmp_path / "params.json")) == Root(count=3)
    assert [path.name for path in tmp_path.iterdir()] == ["params.json"]


# Differences and help.


def test_the_difference_of_two_trees_lists_flags() -> None:
    assert diff_params(Root(), Root(count=2, part=Wide())) == [
        ("--count", "1", "2"),
        ("--part", "Small", "Wide"),
        ("--part.width", "3", "30"),
    ]
    assert diff_params(Root(), Root()) == []
    assert non_default_flags(Root(rate=0.25)) == {"--rate": "0.25"}


def test_help_has_every_flag_its_value_and_its_text() -> None:
    text = format_groups(group_flags(Root(part=Large())).values())
    for expected in (
        "--count INT  [1]",
        "How many.",
        "--color RED | BLUE  [RED]",
        "--pair INT FLOAT  [1 2.0]",
        "--part Small | Wide | Large  [Large]",
        "--part.widths INT ...  [4 5]",
        "How wide, layer by layer.",
        "--part.inner.width INT  [3]",
    ):
        assert expected in text


def test_a_search_finds_flags_of_variants_that_are_not_chosen() -> None:
    text = format_search_results(Root(), "layer")
    assert "--part.widths INT ..." in text
    assert "(with --part Large)" in text
    assert "no flags match" in format_search_results(Root(), "zebra")
    of_a_list = format_search_results(Root(), "parts.0.width")
    assert "--parts.0.width INT" in of_a_list
    assert "(with --parts Small or Wide)" in of_a_list


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--par"], ["--part", "--part.width", "--parts"]),
        (["--part", "L"], ["Large"]),
        (["--color", ""], ["RED", "BLUE"]),
        (["--flag", "t"], ["true"]),
        (["--count", "3", "--pai"], ["--pair"]),
    ],
)
def test_completion_offers_flags_and_choices(words: list[str], expected: list[str]) -> None:
    assert complete_words(Root(), words) == expected


# Found by readers and first users.


class Odd(Params):
    """Types that are easily forgotten."""

    variants: list[Part] | None = None
    """Parts, perhaps."""

    by_name: dict[str, Part] | None = None
    """Named parts, perhaps."""

    fixed: tuple[Part, ...] = ()
    """Parts that stay."""

    patterns: list[str] = []
    """Regular expressions."""

    number: Literal[1, 2] = 1
    """One or two."""

    folder: Path = Path("here")
    """Where."""


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--variants none", Odd()),
        ("--by_name none", Odd()),
        ("--variants Small --variants.0.width 4", Odd(variants=[Small(width=4)])),
        ("--fixed Small Wide", Odd(fixed=(Small(), Wide()))),
        ("--fixed none", Odd()),
        ("--patterns [bg]amma ^x", Odd(patterns=["[bg]amma", "^x"])),
        ("--patterns [bg]amma", Odd(patterns=["[bg]amma"])),
        ("--patterns none", Odd(patterns=["none"])),
        ("--folder=~/runs", Odd(folder=Path.home() / "runs")),
    ],
)
def test_odd_types_from_flags(words: str, expected: Odd) -> None:
    tree = flags(*words.split(" "), root=Odd)
    assert tree == expected
    assert type(tree.fixed) is tuple
    assert apply_settings(ResolvedParams(Odd()), settings_from_file(tree.to_dict(), "p.json")).tree == tree


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"number": True}, "number: expected one of 1, 2, got true"),
        ({"number": 1.0}, "number: expected one of 1, 2, got 1.0"),
        ({"folder": ""}, "folder: expected a path, got nothing"),
    ],
)
def test_odd_values_in_files_are_rejected(values: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Odd.from_dict(values)


@pytest.mark.parametrize("number", [math.inf, math.nan])
def test_infinity_is_not_an_integer(number: float) -> None:
    with pytest.raises(UsageError, match="count: expected an integer"):
        Root.from_dict({"count": number})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("count: 2024-01-01", "count: expected an integer, got '2024-01-01'"),
        ("count: 1:30", "count: expected an integer, got '1:30'"),
        ("on: 3", "p.yaml: on: unknown flag"),
        ("count: 3\nname: a\ncount: 4", r"p.yaml, line 3: duplicate key 'count' \(first in line 1\)"),
        ("count: !!int 3", "p.yaml, line 1: unsupported tag !!int"),
        ("count:\n\t3", "p.yaml, line 2: not valid YAML"),
        ("name: &a [*a]", "p.yaml, line 1: alias contains itself"),
        ("name: " + "[" * 2000 + "]" * 2000, "p.yaml, line 1: nested too deeply"),
    ],
)
def test_ambiguous_yaml_is_rejected_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(text)
    with pytest.raises(UsageError, match=message):
        apply_settings(ResolvedParams(Root()), settings_from_file(read_param_file(tmp_path / "p.yaml"), "p.yaml"))


def test_a_word_in_yaml_means_what_it_means_behind_a_flag(tmp_path: Path) -> None:
    words = {"count": "010", "rate": "1e3", "name": "no", "flag": "no", "names": "[1:30, 007, null, on]"}
    (tmp_path / "p.yaml").write_text("".join(f"{name}: {word}\n" for name, word in words.items()))
    with pytest.raises(UsageError, match="names: expected a string, got null"):
        apply_settings(ResolvedParams(Root()), settings_from_file(read_param_file(tmp_path / "p.yaml"), "p.yaml"))
    (tmp_path / "p.yaml").write_text((tmp_path / "p.yaml").read_text().replace("null, ", ""))
    tree = apply_settings(
        ResolvedParams(Root()), settings_from_file(read_param_file(tmp_path / "p.yaml"), "p.yaml")
    ).tree
    assert tree == Root(count=10, rate=1000.0, name="no", flag=False, names=["1:30", "007", "on"])
    typed = flags("--count", "010", "--rate", "1e3", "--name", "no", "--flag", "no", "--names", "1:30", "007", "on")
    assert tree == typed


def test_yaml_merge_keys_work(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("part: &base {class: Small, width: 5}\nmaybe: {<<: *base, width: 6}\n")
    tree = apply_settings(
        ResolvedParams(Root()), settings_from_file(read_param_file(tmp_path / "p.yaml"), "p.yaml")
    ).tree
    assert tree == Root(part=Small(width=5), maybe=Small(width=6))


def test_a_check_may_name_a_part_of_a_part() -> None:
    class Whole(Params):
        part: Part = Small()

        def check(self) -> None:
            self.require(self.part.size() < 5, "part.width", "must be below 5")
            self.require(self.part.size() != 4, "nothing.like.it", "must not be 4")

    with pytest.raises(UsageError, match="--part.width 7: must be below 5"):
        validate_params(Whole(part=Small(width=7)))
    with pytest.raises(UsageError, match="--nothing.like.it: must not be 4"):
        validate_params(Whole(part=Small(width=4)))


def test_checking_converts_what_is_near_its_type() -> None:
    near = Root(count=2.0, rate=1, file="x", color="BLUE", pair=[1, 2], parts=(Small(),))  # type: ignore[arg-type]
    tree = validate_params(near)
    assert tree == Root(count=2, rate=1.0, file=Path("x"), color=Color.BLUE, pair=(1, 2.0), parts=[Small()])
    assert [type(value) for value in (tree.count, tree.rate, tree.pair, tree.parts)] == [int, float, tuple, list]


def test_a_class_in_place_of_an_instance_is_reported() -> None:
    with pytest.raises(UsageError, match=r"--part: expected an instance, got class Small; did you mean Small\(\)\?"):
        validate_params(Root(part=Small))  # type: ignore[arg-type]


def test_a_parameter_and_a_method_of_one_name_are_rejected() -> None:
    with pytest.raises(TypeError, match="size: Small has a method of this name"):
        type("A", (Small,), {"__annotations__": {"size": "int"}, "size": 3, "__module__": __name__})
    with pytest.raises(TypeError, match="width overrides a parameter of a base class with a method"):
        type("B", (Small,), {"width": lambda self: 3, "__module__": __name__})


def test_params_can_be_keys_of_a_cache() -> None:
    assert {Large(): 1}[Large()] == 1
    assert hash(Root(names=["a"])) == hash(Root())


def test_a_flag_of_a_variant_that_another_flag_replaces_is_explained() -> None:
    with pytest.raises(UsageError, match="--part.width: belongs to Small, but --part is Large; add --part Small"):
        flags("--part", "Large", "--part.width", "3")


def test_the_origin_of_a_part_of_a_dict_is_shown() -> None:
    _, words = tokenize(["--weights.a", "3"])
    shown = format_resolved_params(apply_settings(ResolvedParams(Root()), settings_from_flags(words)))
    assert [line for line in shown.splitlines() if line.startswith("--weights a=3.0") and line.endswith("# flag")]


def test_a_variant_of_the_scenario_module_takes_precedence() -> None:
    class Base(Params, abc.ABC):
        """What there are variants of."""

    def variant(module: str) -> type[Params]:
        return type("Net", (Base,), {"__module__": module, "__annotations__": {}})  # type: ignore[return-value]

    one, two, three = variant("pkg.one"), variant("pkg.two.scenario"), variant("other")
    assert find_variant([Base], "Net", home="pkg.one") is one
    assert find_variant([Base], "net", home="pkg.two.model") is two
    assert find_variant([Base], "other:Net", home="pkg.one") is three
    assert set(available_variants(Base, home="pkg.one")) == {"Net", "pkg.two.scenario:Net", "other:Net"}
    with pytest.raises(UsageError, match="3 variants are called Net; choose one of"):
        find_variant([Base], "Net", home="elsewhere")


@pytest.mark.parametrize(
    ("flag", "answer"),
    [
        ("--early_stopping.patience", "did you mean --early_stopping.n_to_go?"),
        ("--optimizer.global_clip_norm", "did you mean --optimizer.clip_global_norm?"),
        ("--train.num_workers", "did you mean --train.num_processes or --val.num_processes"),
        ("--max_epochs", "did you mean --trainer.epochs?"),
        ("--optimizer.learning_rate", "did you mean --learning_rate.lr?"),
        ("--trainer.accumulate_grad_batches", "did you mean --trainer.accumulate_steps?"),
        ("--trainer.gradient_clip_val", "did you mean --optimizer.clip_global_norm?"),
    ],
)
def test_a_flag_of_another_framework_names_ours(flag: str, answer: str) -> None:
    _, flags = tokenize([flag, "3"])
    with pytest.raises(UsageError, match=re.escape(answer)):
        apply_settings(ResolvedParams(Scenario()), settings_from_flags(flags))


@pytest.mark.parametrize(
    ("word", "flag"),
    [("ema", "--trainer.calc_ema"), ("patience", "--early_stopping.n_to_go"), ("num_workers", "--val.num_processes")],
)
def test_help_finds_flags_by_their_names_in_other_frameworks(word: str, flag: str) -> None:
    assert f"  {flag} " in format_search_results(Scenario(), word)


def test_errors_in_python_name_arguments_and_are_value_errors() -> None:
    trainer = Trainer(epochs=0)
    with pytest.raises(ValueError, match=r"^Trainer\.epochs 0: must be at least 1$"), errors_name_arguments(trainer):
        validate_params(trainer)
    text = "--trainer.epochs 3 and --resume.epoch 1 (--help)"
    assert flags_to_arguments(text, Scenario(), resume=Resume()) == "Trainer.epochs 3 and Resume.epoch 1 (--help)"
