"""Plans of batches: which runs they make, and the error of each mistake."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# ruff: noqa: E501  (messages are quoted as they are printed)
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from tfaip_like import Scenario, UsageError
from tfaip_like._scenario_lookup import find_scenario
from tfaip_like._utils.yaml_files import parse_yaml
from tfaip_like.experiments import Configuration, Distribution, Plan, PlannedRun, RandomSearchSpace
from tfaip_like.experiments._batches.batch import BatchRun
from tfaip_like.experiments._plans.flag_values import FlagValue, Value
from tfaip_like.experiments._plans.named_models import expand_models
from tfaip_like.experiments._plans.plan_reader import read_plan
from tfaip_like.experiments._plans.plan_writer import plan_to_yaml
from tfaip_like.experiments._plans.resolution import Resolver, iter_resolved, load_plan_scenario
from tfaip_like.params._apply import ResolvedParams, apply_settings
from tfaip_like.params._base import default_instance
from tfaip_like.params._flags import settings_from_flags, tokenize
from tfaip_like.params._ignored_flags import ExplicitFlags as GivenByFlags
from tfaip_like.params._ignored_flags import reject_ignored_flags
from tfaip_like.params._tree import diff_params


def runs_of(text: str, folder: Path, scenario: str = "experts") -> list[Scenario]:
    """Return the parameters of all runs of a plan."""
    return [tree for _, tree in expand_plan(text, folder, scenario)]


def expand_plan(text: str, folder: Path, scenario: str = "experts") -> list[tuple[PlannedRun, Scenario]]:
    """Return all runs of a plan with their parameters."""
    (folder / "plan.yaml").write_text(f"scenario: {scenario}\n{text}")
    return resolved(folder / "plan.yaml")


def resolved(path: Path) -> list[tuple[PlannedRun, Scenario]]:
    """Return all runs of a plan file with their parameters."""
    plan = read_plan(path)
    cls = load_plan_scenario(plan)
    return list(iter_resolved(cls, expand_models(plan, cls).runs()))


THREE_LEVELS = """
configurations:
  base: {trainer.epochs: 10, optimizer: Adamax}
  wide:
    extends: base
    train.batch_size: 16
  trigger:
    extends: wide
    abstract: true
    trainer.epochs: 20
    grid: {learning_rate.lr: [0.01, 0.001], model.dropout: [0.0, 0.2]}
  experts:
    extends: trigger
    experts: [1, 2, 3, 4, 5]
    for_expert: {2: {trainer.epochs: 40}, 5: {train.batch_size: 4, optimizer: SGD}}
run: [base, experts]
"""


def test_three_levels_a_grid_and_experts_make_exactly_these_runs(tmp_path: Path) -> None:
    rows = [
        f"{run.configuration} {tree.data.expert} {tree.trainer.epochs} {type(tree.optimizer).__name__} "
        f"{tree.train.batch_size} {tree.learning_rate.lr} {tree.model.dropout}"
        for run, tree in expand_plan(THREE_LEVELS, tmp_path)
    ]
    assert rows == [
        "base 1 10 Adamax 8 0.001 0.1",
        "experts 1 20 Adamax 16 0.01 0.0",
        "experts 1 20 Adamax 16 0.01 0.2",
        "experts 1 20 Adamax 16 0.001 0.0",
        "experts 1 20 Adamax 16 0.001 0.2",
        "experts 2 40 Adamax 16 0.01 0.0",
        "experts 2 40 Adamax 16 0.01 0.2",
        "experts 2 40 Adamax 16 0.001 0.0",
        "experts 2 40 Adamax 16 0.001 0.2",
        "experts 3 20 Adamax 16 0.01 0.0",
        "experts 3 20 Adamax 16 0.01 0.2",
        "experts 3 20 Adamax 16 0.001 0.0",
        "experts 3 20 Adamax 16 0.001 0.2",
        "experts 4 20 Adamax 16 0.01 0.0",
        "experts 4 20 Adamax 16 0.01 0.2",
        "experts 4 20 Adamax 16 0.001 0.0",
        "experts 4 20 Adamax 16 0.001 0.2",
        "experts 5 20 SGD 4 0.01 0.0",
        "experts 5 20 SGD 4 0.01 0.2",
        "experts 5 20 SGD 4 0.001 0.0",
        "experts 5 20 SGD 4 0.001 0.2",
    ]


def test_repetitions_count_their_seeds(tmp_path: Path) -> None:
    text = """
configurations:
  alone: {}
  given: {trainer.random_seed: 7, repeat: 2}
  counted: {repeat: 3}
"""
    seeds = [tree.trainer.random_seed for tree in runs_of(text, tmp_path)]
    assert seeds == [None, 7, 8, 1, 2, 3]


def test_a_later_base_wins_and_one_that_both_extend_does_not_win_again(tmp_path: Path) -> None:
    text = """
configurations:
  base: {trainer.epochs: 1, train.batch_size: 1}
  left: {extends: base, trainer.epochs: 2}
  right: {extends: base, train.batch_size: 3}
  both: {extends: [left, right]}
run: both
"""
    [both] = runs_of(text, tmp_path)
    assert (both.trainer.epochs, both.train.batch_size) == (2, 3)


def test_variations_are_inherited_until_a_plain_value_replaces_them(tmp_path: Path) -> None:
    text = """
configurations:
  varied: {grid: {trainer.epochs: [1, 2]}, abstract: true}
  same: {extends: varied}
  fixed: {extends: varied, trainer.epochs: 5}
"""
    assert [tree.trainer.epochs for tree in runs_of(text, tmp_path)] == [1, 2, 5]


def test_a_list_gives_each_of_its_settings_a_run(tmp_path: Path) -> None:
    text = """
configurations:
  each:
    list:
      - {optimizer: SGD, learning_rate.lr: 0.1}
      - {optimizer: {class: AdamW, weight_decay: 1e-3}}
"""
    one, other = runs_of(text, tmp_path)
    assert (type(one.optimizer).__name__, one.learning_rate.lr) == ("SGD", 0.1)
    assert (type(other.optimizer).__name__, other.optimizer.weight_decay) == ("AdamW", 1e-3)


def test_random_values_are_those_of_their_seed_and_within_their_bounds(tmp_path: Path) -> None:
    text = """
configurations:
  drawn:
    random:
      draws: 30
      seed: 7
      values:
        learning_rate.lr: {log_uniform: [1e-4, 1e-2]}
        model: {dropout: {uniform: [0, 0.5]}}
        train.batch_size: {integer: [4, 9]}
        train.balance: {choice: [none, none]}
"""
    runs = runs_of(text, tmp_path)
    assert runs == runs_of(text, tmp_path)
    assert len({tree.learning_rate.lr for tree in runs}) == 30
    assert all(1e-4 <= tree.learning_rate.lr <= 1e-2 and 0 <= tree.model.dropout <= 0.5 for tree in runs)
    assert {tree.train.batch_size for tree in runs} == {4, 5, 6, 7, 8, 9}
    assert runs != runs_of(text.replace("seed: 7", "seed: 8"), tmp_path)


def test_values_are_words_of_a_command_line(tmp_path: Path) -> None:
    text = """
configurations:
  words:
    data.processors: [{class: Shift, pixels: 2}, Shift]
    model: {graph: {class: MLP, units: [64, 32]}}
    evaluator: none
    trainer.description: "on"
    trainer.jit_compile: no
    trainer.random_seed:
    learning_rate.lr: 1e-4
    model.loss_weights: {cross_entropy: 0.5}
"""
    [tree] = runs_of(text, tmp_path, "scenarios.tutorial")
    assert [p.pixels for p in tree.data.processors] == [2, 1]
    assert tree.model.graph.units == [64, 32]
    assert tree.evaluator is None
    assert tree.trainer.description == "on"
    assert tree.trainer.jit_compile is False
    assert tree.trainer.random_seed is None
    assert tree.learning_rate.lr == 1e-4
    assert tree.model.loss_weights == {"cross_entropy": 0.5}


def test_models_are_configurations_of_a_class_and_an_architecture(tmp_path: Path) -> None:
    text = """
common: {trainer.epochs: 4}
models: {Classifier.CNN: 2, Classifier.MLP: 1}
"""
    found = expand_plan(text, tmp_path, "scenarios.tutorial")
    assert [(run.configuration, type(tree.model.graph).__name__) for run, tree in found] == [
        ("Classifier.CNN", "CNN"),
        ("Classifier.CNN", "CNN"),
        ("Classifier.MLP", "MLP"),
    ]
    assert {tree.trainer.epochs for _, tree in found} == {4}


def test_the_same_in_python() -> None:
    plan = Plan(
        scenario="experts",
        configurations={
            "base": Configuration({"trainer": {"epochs": 10}, "optimizer": "Adamax"}, abstract=True),
            "wide": Configuration(extends=["base"], grid={"model.dropout": [0.0, 0.2]}, repeat=2),
            "drawn": Configuration(
                extends=["base"],
                random=RandomSearchSpace(2, {"learning_rate.lr": Distribution("uniform", [0.1, 0.2])}, seed=3),
            ),
        },
    )
    found = list(iter_resolved(find_scenario("experts"), plan.runs()))
    assert [(run.configuration, run.repeat, tree.model.dropout) for run, tree in found] == [
        ("wide", 1, 0.0),
        ("wide", 2, 0.0),
        ("wide", 1, 0.2),
        ("wide", 2, 0.2),
        ("drawn", 1, 0.1),
        ("drawn", 1, 0.1),
    ]
    wrong = Plan(scenario="experts", configurations={"base": Configuration({"trainer.epochs": "ten"}, where="base")})
    with pytest.raises(UsageError, match=r"^base: --trainer.epochs: expected an integer, got 'ten'$"):
        list(iter_resolved(find_scenario("experts"), wrong.runs()))


def test_a_plan_made_in_python_is_written_as_a_file_that_means_the_same(tmp_path: Path) -> None:
    plan = Plan(
        scenario="experts",
        description="with: colons, and\nlines",
        common={"trainer": {"epochs": 3}},
        configurations={
            "base": Configuration({"optimizer": {"class": "Adamax", "weight_decay": 1e-4}}, abstract=True),
            "wide": Configuration(
                {"data.processors": [{"class": "Pause", "seconds": 0.5}], "evaluator": None},
                extends=["base"],
                grid={"model.dropout": [0.0, 0.2], "trainer.keep_epochs": [[1, 2], []]},
                experts=["1", "2"],
                for_expert={"2": {"trainer.jit_compile": True}},
            ),
            "drawn": Configuration(
                random=RandomSearchSpace(3, {"learning_rate.lr": Distribution("log_uniform", [1e-4, 1e-2])}, seed=4),
                repeat=2,
            ),
            "each": Configuration(list=[{"trainer.description": "no"}, {"trainer.description": ""}]),
        },
        models={"Line": 2},
        run=["wide", "drawn", "each"],
    )
    (tmp_path / "plan.yaml").write_text(plan_to_yaml(plan))
    read = read_plan(tmp_path / "plan.yaml")
    assert read.description == plan.description
    resolver = Resolver(find_scenario("experts"))
    one, other = (
        [
            (run.configuration, resolver(run).flags.keys(), resolver(run).params, run.expert, run.repeat)
            for run in expand_models(some_plan, resolver.scenario).runs()
        ]
        for some_plan in (plan, read)
    )
    assert one == other
    assert len(one) == 8 + 6 + 2 + 2


words = some.text(some.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=8)


@settings(max_examples=50)
@given(some.dictionaries(words, some.lists(words, max_size=3) | words, max_size=5))
def test_texts_in_yaml_stay_what_is_written(values: dict[str, list[str] | str]) -> None:
    text = "\n".join(f"{key!r}: {value!r}" for key, value in values.items())
    entry = parse_yaml(text or "{}", "plan.yaml")
    assert isinstance(entry.content, dict)
    read = {
        key: [item.content for item in value.content] if isinstance(value.content, list) else value.content
        for key, value in entry.content.items()
    }
    assert read == values
    assert [value.where for value in entry.content.values()] == [
        f"plan.yaml, line {line}" for line in range(1, 1 + len(values))
    ]


@dataclass(frozen=True)
class Wrong:
    """A plan with a mistake."""

    text: str
    """Its configurations."""
    says: str
    """The message behind the name of the file."""
    whole: bool = False
    """Whether the text is the whole file."""


WRONG = [
    Wrong(
        "configurations: [\n", "line 2: not valid YAML: expected the node content, but found '<stream end>'", whole=True
    ),
    Wrong("- a\n- b\n", "line 1: expected a plan: scenario, configurations, ..., got a list", whole=True),
    Wrong("scenario: experts\nscenario: small\n", "line 2: duplicate key 'scenario' (first in line 1)", whole=True),
    Wrong(
        "scenario: experts\nconfiguration:\n  base: {}\n",
        "line 2: unknown key 'configuration'; did you mean 'configurations'?",
        whole=True,
    ),
    Wrong(
        "configurations:\n  base: {}\n",
        "line 1: missing key `scenario`: a module (scenarios.tutorial), a class in it or a file",
        whole=True,
    ),
    Wrong("scenario: experts\n", "line 1: nothing to run: expected `configurations` or `models`", whole=True),
    Wrong("scenario: [a]\nconfigurations: {}\n", "line 1: expected a scenario, got a list", whole=True),
    Wrong(
        "scenario: experts\nconfigurations: [base]\n", "line 2: expected named configurations, got a list", whole=True
    ),
    Wrong("  base: 3\n", "line 3: expected flags and their values, got '3'"),
    Wrong("  a/b: {}\n", "line 3: 'a/b' is not a valid configuration name: use letters, digits, _ . + = -"),
    Wrong("  base:\n    : 3\n", "line 4: not valid YAML: expected <block end>, but found ':'"),
    Wrong(
        "  base:\n    trainer.epochs: 3\n    trainer.epochs: 4\n",
        "line 5: duplicate key 'trainer.epochs' (first in line 4)",
    ),
    Wrong("  base:\n    trainer: {epochs: 3}\n    trainer.epochs: 4\n", "line 5: --trainer.epochs: duplicate flag"),
    Wrong(
        "  base:\n    trainer.epoch: 3\n",
        "line 4: --trainer.epoch: unknown flag; did you mean --trainer.epochs?",
    ),
    Wrong(
        "  base:\n    trainer:\n      lr: 3\n",
        "line 5: --trainer.lr: unknown flag; did you mean --trainer or --learning_rate.lr?",
    ),
    Wrong("  base:\n    trainer.epochs: ten\n", "line 4: --trainer.epochs: expected an integer, got 'ten'"),
    Wrong(
        "  base:\n    trainer.epochs: [1, 2]\n",
        "line 4: --trainer.epochs: expected one value, got 2: 1 2; quote a value with spaces",
    ),
    Wrong("  base:\n    trainer.epochs: 0\n", "line 4: --trainer.epochs 0: must be at least 1"),
    Wrong(
        "  base:\n    optimizer: Adamx\n",
        "line 4: --optimizer: unknown Optimizer 'Adamx'; did you mean Adamax?",
    ),
    Wrong(
        "  base:\n    optimizer.momentum: 0.9\n",
        "line 4: --optimizer.momentum: belongs to SGD, but --optimizer is Adam; add --optimizer SGD",
    ),
    Wrong(
        "  base:\n    --trainer.epochs: 3\n",
        "line 4: --trainer.epochs: write flags without dashes: trainer.epochs",
    ),
    Wrong(
        "  base:\n    trainer.output_dir: here\n",
        "line 4: --trainer.output_dir: set by the batch for each run; remove this flag",
    ),
    Wrong("  base:\n    extend: other\n", "line 4: unknown key 'extend'; did you mean 'extends'?"),
    Wrong("  base:\n    extends: bse\n  basis: {}\n", "line 4: unknown configuration 'bse'; did you mean 'base'?"),
    Wrong(
        "  a:\n    extends: b\n  b:\n    extends: c\n  c: {extends: a}\n",
        "line 7: 'c' extends itself: a -> b -> c -> a",
    ),
    Wrong("  a:\n    extends: a\n", "line 4: 'a' extends itself: a -> a"),
    Wrong("  a:\n    repeat: often\n", "line 4: repeat: expected an integer >= 1, got 'often'"),
    Wrong("  a:\n    repeat: 0\n", "line 4: repeat: expected an integer >= 1, got '0'"),
    Wrong("  a:\n    abstract: perhaps\n", "line 4: abstract: expected true or false, got 'perhaps'"),
    Wrong("  a:\n    abstract: true\n", "line 2: nothing to run: all configurations are abstract"),
    Wrong("  a: {}\nrun: [b]\n", "line 4: unknown configuration 'b'; available: a"),
    Wrong("  a: {abstract: true}\n  b: {}\nrun: a\n", "line 5: 'a' is abstract and cannot be run"),
    Wrong("  a:\n    grid: [1, 2]\n", "line 4: expected flags and their lists of values, got a list"),
    Wrong(
        "  a:\n    grid:\n      trainer.epochs: 3\n", "line 5: expected a list of values of --trainer.epochs, got '3'"
    ),
    Wrong(
        "  a:\n    grid:\n      trainer.epochs: []\n",
        "line 5: expected a list of values of --trainer.epochs, got an empty one",
    ),
    Wrong(
        "  a:\n    grid:\n      trainer.epochs:\n        - 3\n        - x\n",
        "line 7: --trainer.epochs: expected an integer, got 'x'",
    ),
    Wrong(
        "  a:\n    grid:\n      trainer.epoch: [3]\n",
        "line 5: --trainer.epoch: unknown flag; did you mean --trainer.epochs?",
    ),
    Wrong(
        "  a:\n    grid:\n      trainer.epochs: [3]\n    list:\n      - {trainer.epochs: 4}\n",
        "line 7: --trainer.epochs is varied by both `grid` and `list`",
    ),
    Wrong("  a:\n    list:\n      - 4\n", "line 5: expected flags and their values, got '4'"),
    Wrong("  a:\n    random: {draws: 3}\n", "line 4: random: missing key `values`"),
    Wrong("  a:\n    random: {draw: 3}\n", "line 4: unknown key 'draw'; did you mean 'draws'?"),
    Wrong(
        "  a:\n    random: {draws: 3, values: {model.dropout: 0.3}}\n",
        "line 4: --model.dropout: expected one distribution (uniform, log_uniform, integer, choice), such as {uniform: [0, 1]}",
    ),
    Wrong(
        "  a:\n    random: {draws: 3, values: {model.dropout: {unifrom: [0, 1]}}}\n",
        "line 4: unknown key 'unifrom'; did you mean 'uniform'?",
    ),
    Wrong(
        "  a:\n    random: {draws: 3, values: {model.dropout: {uniform: [1, 0]}}}\n",
        "line 4: uniform: expected LOW < HIGH, got 1 0",
    ),
    Wrong(
        "  a:\n    random: {draws: 3, values: {model.dropout: {uniform: [1, x]}}}\n",
        "line 4: uniform: expected two numbers [LOW, HIGH], got 1 x",
    ),
    Wrong(
        "  a:\n    random: {draws: 3, values: {model.dropout: {log_uniform: [0, 1]}}}\n",
        "line 4: log_uniform: bounds must be positive",
    ),
    Wrong(
        "  a:\n    random: {draws: 3, values: {train.batch_size: {integer: [1.5, 3]}}}\n",
        "line 4: integer: expected two integers, got 1.5 3",
    ),
    Wrong(
        "  a:\n    random: {draws: 3, seed: x, values: {train.batch_size: {integer: [1, 3]}}}\n",
        "line 4: seed: expected an integer >= 0, got 'x'",
    ),
    Wrong(
        "  a:\n    random: {draws: 3, values: {train.batch_size: {choice: []}}}\n",
        "line 4: expected a list of values for choice, got an empty one",
    ),
    Wrong("  a:\n    experts: [1, 1]\n", "line 4: experts: duplicate expert '1'"),
    Wrong("  a:\n    experts: [1, 9]\n", "line 4: --data.expert: expected one of 1, 2, 3, 4, 5, got '9'"),
    Wrong(
        "  a:\n    experts: [1, a/b]\n",
        "line 4: experts: 'a/b' is not a valid name: use letters, digits, _ . + = -",
    ),
    Wrong(
        "  a:\n    expert_flag: data.expret\n    experts: [1]\n",
        "line 5: --data.expret: unknown flag; did you mean --data.expert?",
    ),
    Wrong(
        "  a:\n    for_expert: {2: {trainer.epochs: 3}}\n",
        "line 4: for_expert: unknown expert '2'; `experts` has none",
    ),
    Wrong(
        "  a:\n    experts: [1]\n    for_expert: {2: {trainer.epochs: 3}}\n",
        "line 5: for_expert: unknown expert '2'; `experts` has 1",
    ),
    Wrong(
        "  a:\n    experts: [1]\n    grid: {data.expert: [1]}\n",
        "line 3: --data.expert is varied by both `grid` and `experts`",
    ),
    Wrong(
        "  a:\n    experts: [1]\n    data.expert: 2\n",
        "line 5: --data.expert is set by `experts` already",
    ),
    Wrong("  a:\n    data.processors: [{pixels: 2}]\n", "line 4: --data.processors: list item without `class`"),
    Wrong(
        "  a:\n    grid:\n      model.dropout: [[0.1], {b: 1}]\n",
        "line 5: expected a value or a list of values, got a mapping with b",
    ),
    Wrong("  a:\n    <<: 3\n", "line 4: `<<` requires a mapping"),
    Wrong(
        "scenario: expert\nconfigurations:\n  a: {}\n",
        "line 1: no module named 'expert' in FOLDER or on the Python path",
        whole=True,
    ),
    Wrong(
        "scenario: experts\nmodels: {Line.deep.wide: 3}\n",
        "line 2: Line.deep.wide: expected MODEL.GRAPH (--model, --model.graph)",
        whole=True,
    ),
    Wrong(
        "scenario: experts\nmodels: {Line: many}\n", "line 2: Line: expected the number of runs, got 'many'", whole=True
    ),
    Wrong(
        "scenario: experts\nmodels: {Lime: 2}\n",
        "line 2: --model: unknown Model 'Lime'; did you mean Line?",
        whole=True,
    ),
    Wrong(
        "scenario: experts\nmodels: {Line: 2}\nconfigurations:\n  Line: {}\n",
        "line 2: Line is also the name of a configuration; rename one of them",
        whole=True,
    ),
    Wrong("  a: &a\n    extends: b\n    list: [*a]\n", "line 3: alias contains itself"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.says[:60])
def test_a_wrong_plan_is_reported_with_its_line(wrong: Wrong, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(wrong.text if wrong.whole else f"scenario: experts\nconfigurations:\n{wrong.text}")
    with pytest.raises(UsageError) as problem:
        resolved(Path("plan.yaml"))
    printed = str(problem.value).replace(str(tmp_path), "FOLDER").split(" (choices: ")[0]
    assert printed == f"plan.yaml, {wrong.says}"


def test_files_that_are_not_plans(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"missing.yaml: cannot be read: No such file or directory"):
        read_plan(tmp_path / "missing.yaml")
    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"plan.yaml, line 1: not valid UTF-8 \(byte 0xff\)"):
        read_plan(tmp_path / "plan.yaml")


def test_a_plain_value_ends_the_experts_of_a_configuration() -> None:
    all_of_them = Configuration({"trainer.epochs": 2}, experts=["1", "2"])
    plan = Plan("s", {"all": all_of_them, "third": Configuration({"data.expert": 3}, extends=["all"])})
    assert [(run.configuration, run.expert) for run in plan.runs()] == [("all", "1"), ("all", "2"), ("third", None)]
    third = Resolver(find_scenario("experts"))(plan.runs()[-1])
    assert flags_in_effect(third.flags) == "--trainer.epochs 2 --data.expert 3"


def flags_in_effect(flags: Mapping[str, FlagValue]) -> str:
    run = BatchRun("r", "c", {flag: value.words for flag, value in flags.items()}, 1, "loss")
    return run.command_line.removesuffix("--trainer.output_dir runs/r").rstrip()


NORMAL: Value = {"class": "Normal", "target": "digit", "mean": 0, "std": 1}


@dataclass
class Layers:
    """Settings that one configuration after the other gives, and the flags that are in effect in the end."""

    given: list[dict[str, Value]]
    expected: str


LAYERS = {
    "another class": Layers(
        [{"optimizer": {"class": "SGD", "momentum": 0.9}}, {"optimizer": {"class": "Adam", "beta_1": 0.8}}],
        "--optimizer Adam --optimizer.beta_1 0.8",
    ),
    "the same class": Layers(
        [{"optimizer": {"class": "SGD", "momentum": 0.9}}, {"optimizer": {"class": "SGD", "nesterov": True}}],
        "--optimizer SGD --optimizer.momentum 0.9 --optimizer.nesterov true",
    ),
    "the class that is the default": Layers(
        [{"model.graph.units": [16]}, {"model.graph": "MLP"}], "--model.graph.units 16 --model.graph MLP"
    ),
    "the same class by another name": Layers(
        [{"model.graph": {"class": "CNN", "filters": [8]}}, {"model.graph": "scenarios.tutorial:CNN"}],
        "--model.graph scenarios.tutorial:CNN --model.graph.filters 8",
    ),
    "a class, another one and the first again": Layers(
        [{"optimizer": {"class": "SGD", "momentum": 0.9}}, {"optimizer": "Adam"}, {"optimizer": "SGD"}],
        "--optimizer SGD",
    ),
    "another list of classes": Layers(
        [{"data.processors": [{"class": "Shift", "pixels": 3}]}, {"data.processors": ["Shift", "Shift"]}],
        "--data.processors Shift Shift",
    ),
    "another list of values": Layers(
        [{"model.graph.units.0": 5}, {"model.graph.units": [3, 4]}], "--model.graph.units 3 4"
    ),
    "an item after its list": Layers(
        [{"model.graph.units": [3, 4]}, {"model.graph.units.0": 5}], "--model.graph.units 3 4 --model.graph.units.0 5"
    ),
    "nothing in place of a class": Layers(
        [{"train.resample": NORMAL}, {"train.resample": None}], "--train.resample none"
    ),
    "a value without effect": Layers([{"val.batch_size": 3}, {"trainer.val_every_n": 0}], "--trainer.val_every_n 0"),
    "parts of a class without effect": Layers(
        [{"early_stopping.lower_threshold": 0.3}, {"trainer.epochs": 3}], "--trainer.epochs 3"
    ),
}


@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_flags_in_effect_are_those_that_the_last_layers_leave(layers: Layers) -> None:
    configurations = {
        str(number): Configuration(values, extends=[str(number - 1)] if number else [])
        for number, values in enumerate(layers.given)
    }
    plan = Plan("s", configurations, run=[str(len(layers.given) - 1)])
    found = Resolver(find_scenario("scenarios.tutorial"))(plan.runs()[0])
    assert flags_in_effect(found.flags) == layers.expected


VALUES: dict[str, Sequence[Value]] = {
    "optimizer": ["Adam", "SGD", "Adamax"],
    "optimizer.momentum": [0.5, 0.9],
    "optimizer.beta_1": [0.8],
    "learning_rate": ["Constant", "CosineDecay"],
    "learning_rate.lr": [0.1],
    "learning_rate.warmup_epochs": [0.5],
    "data.processors": [["Shift"], ["Shift", "Shift"], []],
    "data.processors.0.pixels": [3],
    "model.graph": ["MLP", "CNN", "scenarios.tutorial:MLP"],
    "model.graph.units": [[3], [4, 5]],
    "model.graph.units.0": [7],
    "model.graph.filters": [[2]],
    "train.resample": [None],
    "trainer.val_every_n": [0, 2],
    "val.batch_size": [4],
    "trainer.random_seed": [3, None],
}


@settings(max_examples=150)
@given(
    some.lists(
        some.fixed_dictionaries({}, optional={flag: some.sampled_from(values) for flag, values in VALUES.items()}),
        min_size=1,
        max_size=4,
    ),
    some.integers(1, 3),
)
def test_the_flags_in_effect_of_a_run_typed_as_a_command_give_its_parameters(
    layers: list[dict[str, Value]], repeat: int
) -> None:
    scenario = find_scenario("scenarios.tutorial")
    last = len(layers) - 1
    configurations = {
        str(number): Configuration(values, extends=[str(number - 1)] if number else [], repeat=repeat)
        for number, values in enumerate(layers)
    }
    for run in Plan("s", configurations, run=[str(last)]).runs():
        try:
            found = Resolver(scenario)(run)
        except UsageError:  # momentum of Adam
            return
        words = {flag: value.words for flag, value in found.flags.items()}
        line = BatchRun("r", "c", words, 1, "loss", random_seed=found.random_seed).command_line
        typed = apply_settings(
            ResolvedParams(default_instance(scenario)), settings_from_flags(tokenize(shlex.split(line))[1])
        )
        reject_ignored_flags(typed.tree, GivenByFlags.from_resolved(typed))  # train-scenario refuses what has no effect
        changed = {flag.removeprefix("--") for flag, _, _ in diff_params(typed.tree, found.params)}
        assert changed <= {*found.ignored, "trainer.output_dir"}


TEXTS = ["a b", "", "it's", '"q"', "a=b", "a,b", "-x", "--flag", "ü€", "two\nlines", "[1]", "none", "010", "no", "1:30"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_in_a_plan_reaches_its_run_and_is_shown_so_that_it_can_be_pasted(text: str, tmp_path: Path) -> None:
    values = {"trainer.description": text, "warmstart.model": "run", "warmstart.include": [text, "c"]}
    plan = Plan("experts", {"a": Configuration(values)}, description="texts")
    (tmp_path / "plan.yaml").write_text(plan_to_yaml(plan))
    for known in (plan, read_plan(tmp_path / "plan.yaml")):
        ((run, tree),) = iter_resolved(load_plan_scenario(known), known.runs())
        assert tree.trainer.description == text
        assert tree.warmstart.include == [text, "c"]
        words = {flag: value.words for flag, value in Resolver(load_plan_scenario(known))(run).flags.items()}
        line = BatchRun("r", "c", words, 1, "loss").command_line
        if "$'" not in line:
            typed = apply_settings(
                ResolvedParams(default_instance(type(tree))), settings_from_flags(tokenize(shlex.split(line))[1])
            ).tree
            assert isinstance(typed, Scenario)
            assert (typed.trainer.description, typed.warmstart.include) == (text, [text, "c"])
