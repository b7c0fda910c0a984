"""A renamed parameter: its former name works with a warning everywhere that a parameter is given."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from conftest import Run

from tfaip_like import UsageError
from tfaip_like.params import Params, Renamed
from tfaip_like.params import _renamed as renamed
from tfaip_like.params._apply import ResolvedParams, apply_settings, settings_from_file
from tfaip_like.params._flags import settings_from_flags, tokenize
from tfaip_like.params._help import (
    complete_words,
    format_groups,
    format_resolved_params,
    format_search_results,
    group_flags,
)
from tfaip_like.params._schema import json_schema

RENAMED = "--net.num_units was renamed to --net.units; version 2.0 no longer accepts the former name"


class Net(Params):
    renamed_fields = {"num_units": Renamed("units", until="2.0")}
    units: int = 8
    """Neurons of the hidden layer."""


class Deep(Net):
    renamed_fields = {"depth": Renamed("num_layers", until="3.0")}
    num_layers: int = 2
    """Number of layers."""


class Root(Params):
    net: Net = Net()
    """Network."""


@pytest.fixture(autouse=True)
def no_warning_so_far() -> None:
    renamed._warn_once.cache_clear()


def resolve(*words: str, **values: object) -> ResolvedParams:
    resolved = apply_settings(ResolvedParams(Root()), settings_from_file(values, "base.json"))  # type: ignore[arg-type]
    return apply_settings(resolved, settings_from_flags(tokenize(words)[1]))


def test_a_flag_with_a_former_name_works_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        resolved = resolve("--net.num_units", "3")
        assert resolved.tree == Root(net=Net(units=3))
    assert caplog.record_tuples == [("tfaip_like.params._renamed", logging.WARNING, RENAMED)]
    assert "--net.units 3" in format_resolved_params(resolved)
    assert "num_units" not in format_resolved_params(resolved)


def test_former_names_of_base_classes_work_in_files(caplog: pytest.LogCaptureFixture) -> None:
    resolved = resolve(net={"class": "Deep", "num_units": 3, "depth": 4})
    assert resolved.tree == Root(net=Deep(units=3, num_layers=4))
    assert caplog.messages == [
        "base.json: net.num_units was renamed to --net.units; version 2.0 no longer accepts the former name",
        "base.json: net.depth was renamed to --net.num_layers; version 3.0 no longer accepts the former name",
    ]


def test_a_flag_takes_precedence_over_a_file_under_either_name() -> None:
    assert resolve("--net.units", "4", net={"num_units": 3}).tree == Root(net=Net(units=4))
    assert resolve("--net.num_units", "4", net={"units": 3}).tree == Root(net=Net(units=4))


@pytest.mark.parametrize("names", [("units", "num_units"), ("num_units", "units")])
def test_both_names_are_an_error(names: tuple[str, str]) -> None:
    is_given = "is a former name of --net.units, which is given too; remove one"
    with pytest.raises(UsageError, match=rf"^--net\.num_units {is_given}$"):
        resolve(*(word for name in names for word in (f"--net.{name}", "3")))
    with pytest.raises(UsageError, match=rf"^base\.json: net\.num_units {is_given}$"):
        resolve(net=dict.fromkeys(names, 3))
    with pytest.raises(UsageError, match=r"^Net\.num_units is a former name of units, which is given too"):
        Net.from_dict(dict.fromkeys(names, 3))
    with pytest.raises(TypeError, match="^Net: num_units is a former name of units, which is given too$"):
        Net(**dict.fromkeys(names, 3))


def test_stored_parameters_with_a_former_name_are_decoded(caplog: pytest.LogCaptureFixture) -> None:
    assert Root.from_dict({"net": {"num_units": 3}}) == Root(net=Net(units=3))
    assert caplog.messages == ["Net.num_units was renamed to units; version 2.0 no longer accepts the former name"]


def test_a_keyword_with_a_former_name_works_with_a_warning_in_the_line_of_the_call() -> None:
    with pytest.warns(FutureWarning, match="^Net.num_units was renamed to units; version 2.0 no longer") as warnings:
        assert Net(num_units=3) == Net(units=3)  # type: ignore[call-arg]
    assert [warning.filename for warning in warnings] == [__file__]
    with pytest.warns(FutureWarning, match="^Deep.num_units"):
        assert Deep(num_units=3, num_layers=1).units == 3  # type: ignore[call-arg]


def test_help_hides_former_names_and_finds_them() -> None:
    assert "num_units" not in format_groups(group_flags(Root()).values())
    assert "--net.num_units" not in complete_words(Root(), ["--net."])
    assert "--net.units" in format_search_results(Root(), "num_units")


def test_the_schema_marks_former_names_as_deprecated() -> None:
    [properties] = [schema["properties"] for tag, schema in json_schema(Root())["$defs"].items() if tag.endswith("Net")]
    assert properties["num_units"] == {**properties["units"], "deprecated": True}


def test_wrong_declarations_are_errors_when_the_class_is_defined() -> None:
    with pytest.raises(TypeError, match=r"Wrong\.renamed_fields: 'neurons' is not a parameter"):

        class Wrong(Params):
            renamed_fields = {"num_units": Renamed("neurons", until="2.0")}
            units: int = 8

    with pytest.raises(TypeError, match=r"Incomplete\.renamed_fields: 'num_units' needs Renamed"):

        class Incomplete(Params):
            renamed_fields = {"num_units": "units"}  # type: ignore[dict-item]
            units: int = 8

    with pytest.raises(TypeError, match=r"Outdated\.num_units: this parameter was renamed to 'units'"):

        class Outdated(Net):
            num_units: int = 3


SCENARIO = """
from scenarios.minimal import Classifier, Minimal
from tfaip_like import Model
from tfaip_like.params import Renamed

class Net(Classifier):
    {declaration}

    def build(self, inputs):
        assert self.{name} == 3
        return super().build(inputs)

class Digits(Minimal):
    model: Model = Net()
"""
PLAN = """
scenario: digits
description: number of hidden units
configurations:
  base:
    model.num_hidden: 3
  wide:
    extends: base
    model.hidden: 4
run: [base, wide]
"""


@pytest.mark.slow
def test_runs_and_plans_from_before_the_renaming_continue(tmp_path: Path, quick_run: Run) -> None:
    module = tmp_path / "digits.py"
    module.write_text(SCENARIO.format(declaration="num_hidden: int = 0", name="num_hidden"))
    flags = ["--trainer.epochs", 1, "--trainer.samples_per_epoch", 32, "--trainer.output_dir", "run"]
    assert quick_run("train-scenario", "digits", *flags, "--model.num_hidden", 3, cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "run/trainer_params.json").read_text())["model"]["num_hidden"] == 3

    declaration = 'renamed_fields = {"num_hidden": Renamed("hidden", until="2.0")}\n    hidden: int = 0'
    module.write_text(SCENARIO.format(declaration=declaration, name="hidden"))
    done = quick_run("resume-training", "run", "--trainer.epochs", 2, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "num_hidden was renamed to --model.hidden; version 2.0 no longer accepts the former name" in done.stderr
    values = json.loads((tmp_path / "run/trainer_params.json").read_text())["model"]
    assert values["hidden"] == 3
    assert "num_hidden" not in values

    (tmp_path / "plan.yaml").write_text(PLAN)
    done = quick_run("experiments", "generate", "plan.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("renamed") == 1
    stored = {file.stem: json.loads(file.read_text())["model"]["hidden"] for file in tmp_path.glob("**/jobs/*.json")}
    assert stored == {"base": 3, "wide": 4}
