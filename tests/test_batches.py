"""Batches on disk: what `experiments generate` and `add` write."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from batches import MINE, PLAN, command, environment, experiments
from conftest import REPOSITORY, slow

from tfaip_like import UsageError
from tfaip_like._cli.command import EXIT_USAGE
from tfaip_like._cli.experiments import experiments as main
from tfaip_like._cli.experiments_plan import default_batch_name
from tfaip_like._cli.train_scenario import train_scenario
from tfaip_like.experiments import Configuration, Plan, generate
from tfaip_like.experiments._batches.batch import Batch, BatchIndex, BatchRun, select_runs
from tfaip_like.experiments._batches.generation import _is_name_of_scenario
from tfaip_like.experiments._plans.plan_reader import read_plan

TWO = "  wide: {trainer.epochs: 3, grid: {model.dropout: [0.0, 0.2]}}\n  other: {trainer.random_seed: 7}\n"
SCENARIO = (
    """
from tfaip_like import *
from helper import WIDTH

"""
    + MINE
)


def generate_batch(folder: Path, text: str, *flags: str) -> Batch:
    """Return the first batch of a plan."""
    (folder / "plan.yaml").write_text(PLAN + text)
    done = experiments(folder, "generate", "plan.yaml", *flags)
    assert done.returncode == 0, done.stderr
    return Batch(folder / "batches" / "plan" / "version_1")


def names(batch: Batch) -> list[str]:
    return [run.name for run in batch.read_index().runs]


def params(batch: Batch, name: str) -> dict:  # type: ignore[type-arg]
    return json.loads(batch.params_path(name).read_text())


def job(batch: Batch, *words: str) -> subprocess.CompletedProcess[str]:
    """Return the output of the job script for some words."""
    return subprocess.run(
        ["bash", batch.job_script_path, *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_a_batch_contains_everything_its_runs_need(tmp_path: Path) -> None:
    batch = generate_batch(tmp_path, TWO)
    assert names(batch) == ["wide.01", "wide.02", "other"]
    assert sorted(path.name for path in batch.jobs_dir.iterdir()) == ["other.json", "wide.01.json", "wide.02.json"]
    assert params(batch, "wide.02")["model"]["dropout"] == 0.2
    assert params(batch, "wide.02")["trainer"]["output_dir"] == "runs/wide.02"
    assert params(batch, "wide.02")["trainer"]["description"] == "jobs that take no time"
    assert batch.plan_path.read_text() == PLAN + TWO
    assert (batch.code_dir / "experts.py").read_text() == (REPOSITORY / "tests" / "experts.py").read_text()
    index = batch.read_index()
    assert index.git_commit == subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=REPOSITORY, text=True).strip()
    assert index.scenario == "experts:Experts"
    assert [run.flags["model.dropout"] for run in index.runs[:2]] == [("0.0",), ("0.2",)]


def test_versions_count_up_and_an_invalid_plan_creates_no_batch(tmp_path: Path) -> None:
    generate_batch(tmp_path, TWO)
    assert "batches/plan/version_2: 3 runs of wide, other" in experiments(tmp_path, "generate", "plan.yaml").stdout
    (tmp_path / "plan.yaml").write_text(PLAN + "  wide: {trainer.epoch: 3}\n")
    done = experiments(tmp_path, "generate", "plan.yaml", "--name", "wrong")
    assert done.returncode == 2
    assert done.stderr == (
        "experiments: plan.yaml, line 4: --trainer.epoch: unknown flag; did you mean --trainer.epochs?\n"
    )
    assert not (tmp_path / "batches" / "wrong").exists()


def test_command_line_flags_override_the_plan_in_all_runs(tmp_path: Path) -> None:
    batch = generate_batch(tmp_path, TWO, "--trainer.epochs", "9", "--description", "here")
    assert {params(batch, name)["trainer"]["epochs"] for name in names(batch)} == {9}
    assert batch.read_index().description == "here"
    wrong = experiments(tmp_path, "generate", "plan.yaml", "--trainer.epochs", "0")
    assert wrong.stderr == "experiments: --trainer.epochs 0: must be at least 1\n"


def test_a_debug_batch_is_small_temporary_and_needs_no_description(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    text = PLAN.replace("description: jobs that take no time\n", "")
    (tmp_path / "plan.yaml").write_text(f"{text}  barrel: {{experts: [3, 1, 2], repeat: 4}}\n  other: {{repeat: 2}}\n")
    done = experiments(tmp_path, "generate", "plan.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "experiments: --description is required (here or in the plan): the purpose of the batch"
    )
    assert experiments(tmp_path, "generate", "plan.yaml", "--debug").returncode == 0
    batch = Batch(tmp_path / "temporary" / f"batches_{os.getuid()}" / "plan" / "version_1")
    assert names(batch) == ["barrel.expert_3", "other"]


def test_models_can_be_given_without_a_plan_file(tmp_path: Path) -> None:
    done = experiments(
        tmp_path,
        *("generate", "--scenario", "scenarios.tutorial", "--models", "Classifier.CNN=2, MLP=3"),
        *("--jobs", "20", "--description", "all of them", "--trainer.epochs", "1000"),
    )
    assert done.returncode == 0, done.stderr
    batch = Batch(tmp_path / "batches" / "tutorial" / "version_1")
    assert names(batch) == [f"Classifier.{name}" for name in ("CNN.01", "CNN.02", "MLP.01", "MLP.02", "MLP.03")]
    assert params(batch, "Classifier.CNN.02")["model"]["graph"]["class"] == "scenarios.tutorial:CNN"
    assert params(batch, "Classifier.MLP.03")["trainer"]["random_seed"] == 3
    assert (batch.read_index().jobs, batch.read_index().array, batch.read_index().runs[0].task) == (20, None, None)
    assert [run.name for run in select_runs(batch.read_index(), ["Classifier.CNN"])] == names(batch)[:2]
    assert [run.name for run in select_runs(batch.read_index(), ["*.01"])] == ["Classifier.CNN.01", "Classifier.MLP.01"]
    assert experiments(tmp_path, "add", batch.path).returncode == 0
    assert len(names(batch)) == 10
    assert params(batch, "Classifier.MLP.06")["trainer"] | {"output_dir": ""} == {
        **params(batch, "Classifier.MLP.03")["trainer"],
        "random_seed": 6,
        "output_dir": "",
    }


@pytest.mark.slow
def test_models_are_those_of_the_scenario_in_the_current_folder(tmp_path: Path) -> None:
    project = tmp_path / "my_zoo"
    project.mkdir()
    (project / "scenario.py").write_text("from experts import Experts\n\nclass Zoo(Experts):\n    pass\n")
    done = experiments(project, "generate", "--models", "Line=2", "--description", "as netrain does")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("batches/my_zoo/version_1: 2 runs of Line\n")
    assert experiments(project, "add", "batches/my_zoo/version_1").returncode == 0


@pytest.mark.parametrize(
    ("scenario", "name"),
    [
        ("scenarios.tutorial:Tutorial", "tutorial"),
        ("scenarios.network_zoo.scenario:NetworkZoo", "network_zoo"),
        ("a/zoo/scenario.py", "zoo"),
        ("a/zoo.py", "zoo"),
        ("a/zoo", "zoo"),
        ("zoo", "zoo"),
    ],
)
def test_a_batch_without_a_plan_file_is_called_as_its_scenario(scenario: str, name: str) -> None:
    assert default_batch_name(scenario) == name


@pytest.mark.slow
def test_each_array_task_trains_all_models_with_other_seeds(tmp_path: Path) -> None:
    models = ("--scenario", "scenarios.tutorial", "--models", "Classifier.CNN=2, MLP=1", "--description", "three each")
    assert experiments(tmp_path, "generate", *models, "--array", "3", "--trainer.epochs", "7").returncode == 0
    batch = Batch(tmp_path / "batches" / "tutorial" / "version_1")

    def tasks() -> dict[int | None, list[tuple[str, int]]]:
        found: dict[int | None, list[tuple[str, int]]] = {}
        for run in batch.read_index().runs:
            seed = params(batch, run.name)["trainer"]["random_seed"]
            assert seed == run.random_seed
            found.setdefault(run.task, []).append((run.configuration, seed))
        return found

    cnn, mlp = "Classifier.CNN", "Classifier.MLP"
    assert tasks() == {task: [(cnn, 2 * task - 1), (cnn, 2 * task), (mlp, task)] for task in (1, 2, 3)}
    assert experiments(tmp_path, "add", batch.path, "--models", "Classifier.MLP=1", "--array", "2").returncode == 0
    assert {task: runs for task, runs in tasks().items() if task and task > 3} == {4: [(mlp, 4)], 5: [(mlp, 5)]}
    assert params(batch, "Classifier.MLP.05")["trainer"]["epochs"] == 7
    listed = experiments(tmp_path, "add", batch.path, "--dry_run").stdout.splitlines()
    assert len(listed) == 1 + 3 * 3
    assert listed[1] == (
        "  Classifier.CNN.07  --trainer.epochs 7 --model Classifier --model.graph CNN --trainer.random_seed 7 "
        "--trainer.output_dir runs/Classifier.CNN.07"
    )


def test_named_models_that_are_added_have_the_common_flags_of_the_plan_too(tmp_path: Path) -> None:
    plan = "scenario: experts\ndescription: d\nnames: '{configuration}_{trainer.epochs}'\ncommon: {trainer.epochs: 4}\n"
    (tmp_path / "plan.yaml").write_text(plan + "configurations: {one: {}}\n")
    assert experiments(tmp_path, "generate", "plan.yaml", "--train.batch_size", "5").returncode == 0
    batch = Batch(tmp_path / "batches" / "plan" / "version_1")
    done = experiments(tmp_path, "add", batch.path, "--models", "Line=1")
    assert done.returncode == 0, done.stderr
    assert names(batch) == ["one_4", "Line_4"]
    assert params(batch, "Line_4")["train"]["batch_size"] == 5
    assert read_plan(batch.path / "plan_2.yaml").common.keys() == {"trainer.epochs", "train.batch_size"}
    done = experiments(tmp_path, "generate", "plan.yaml", "--dry_run", "--names", "{trainer.epoch}")
    assert done.stderr.startswith("experiments: --names: {trainer.epoch}: unknown flag; did you mean")


def test_added_runs_have_the_flags_of_the_batch_unless_overridden(tmp_path: Path) -> None:
    flags = ("--trainer.epochs", "7", "--optimizer", "SGD", "--optimizer.momentum", "0.5")
    batch = generate_batch(tmp_path, TWO, *flags)
    (tmp_path / "new.yaml").write_text(PLAN + "  same: {}\n  other_optimizer: {optimizer: Adam, trainer.epochs: 2}\n")
    assert experiments(tmp_path, "add", batch.path, "new.yaml", "--train.batch_size", "5").returncode == 0
    assert {run.name: run.flags for run in batch.read_index().runs[3:]} == {
        "same": {
            "trainer.epochs": ("7",),
            "optimizer": ("SGD",),
            "optimizer.momentum": ("0.5",),
            "train.batch_size": ("5",),
        },
        "other_optimizer": {"trainer.epochs": ("2",), "optimizer": ("Adam",), "train.batch_size": ("5",)},
    }


MODELS = """
from experts import Experts, Part
from small import Line as Base
from tfaip_like import Data, Model

class Alone(Part):
    noise: float = 0.0

class Line(Base):
    pass

class Brings(Base):
    experiment_defaults = {"data": {"class": "Alone", "noise": 0.5}, "trainer.epochs": 9}

class Mine(Experts):
    model: Model = Line()
    data: Data = Part()
"""


def test_a_model_class_sets_the_data_it_requires(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODELS)
    words = ("--scenario", "mine.py", "--models", "Line=1, Brings=1", "--description", "d")
    assert experiments(tmp_path, "generate", *words).returncode == 0
    batch = Batch(tmp_path / "batches" / "mine" / "version_1")
    assert params(batch, "Line")["data"]["class"] == "experts:Part"
    brought = params(batch, "Brings")
    assert (brought["data"]["class"], brought["data"]["noise"], brought["trainer"]["epochs"]) == ("mine:Alone", 0.5, 9)
    assert experiments(tmp_path, "generate", *words, "--data", "Part", "--trainer.epochs", "3").returncode == 0
    assert batch.read_index().runs[1].flags == {
        "data": ("Alone",),
        "data.noise": ("0.5",),
        "trainer.epochs": ("9",),
        "model": ("Brings",),
    }
    batch = Batch(tmp_path / "batches" / "mine" / "version_2")
    assert batch.read_index().runs[1].flags == {"data": ("Part",), "trainer.epochs": ("3",), "model": ("Brings",)}
    (tmp_path / "mine.py").write_text(MODELS.replace('"noise"', '"nois"'))
    done = experiments(tmp_path, "generate", *words)
    assert done.stderr == (
        "experiments: Brings.experiment_defaults: --data.nois: unknown flag; did you mean --data.noise?\n"
    )


def test_a_plan_may_have_flags_that_need_an_output_folder(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN + "  kept: {trainer.keep_data: true, trainer.keep_every_n: 1}\n")
    done = experiments(tmp_path, "generate", "plan.yaml", "--dry_run")
    assert done.stderr == ""
    assert done.stdout.endswith(
        "  kept  --trainer.keep_data true --trainer.keep_every_n 1 --trainer.output_dir runs/kept\n"
    )


def test_values_without_effect_are_reported_with_their_origin(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "scenario: experts\ndescription: d\ncommon: {val.batch_size: 5}\n"
        "configurations:\n  seen: {}\n  blind: {trainer.val_every_n: 0}\n"
    )
    done = experiments(tmp_path, "generate", "plan.yaml", "--dry_run")
    assert done.stdout.splitlines()[1:] == [
        "  seen   --val.batch_size 5 --trainer.output_dir runs/seen",
        "  blind  --trainer.val_every_n 0 --trainer.output_dir runs/blind",
    ]
    why = "has no effect in blind: validation is disabled (--trainer.val_every_n 0)"
    assert f"plan.yaml, line 3: --val.batch_size {why}" in done.stderr
    done = experiments(tmp_path, "generate", "plan.yaml", "--trainer.val_every_n", "0", "--val.limit", "3")
    assert done.returncode == 2
    assert "\nexperiments: --val.limit has no effect: validation is disabled" in done.stderr


def test_add_appends_runs_to_the_existing_ones(tmp_path: Path) -> None:
    batch = generate_batch(tmp_path, TWO)
    before = {path: path.read_bytes() for path in batch.jobs_dir.iterdir()}
    again = experiments(tmp_path, "add", batch.path)
    assert again.stdout == f"{batch.path}: 3 runs added: wide.03, wide.04, other.02\n"
    assert params(batch, "other.02")["trainer"]["random_seed"] == 8
    (tmp_path / "new.yaml").write_text(PLAN + "  deep: {extends: base, repeat: 2}\n  base: {abstract: true}\n")
    assert experiments(tmp_path, "add", batch.path, "new.yaml", "--trainer.epochs", "4").returncode == 0
    assert names(batch)[6:] == ["deep.01", "deep.02"]
    assert params(batch, "deep.01")["trainer"]["epochs"] == 4
    assert (batch.path / "plan_2.yaml").read_text() == (tmp_path / "new.yaml").read_text()
    assert {path: path.read_bytes() for path in before} == before
    (tmp_path / "new.yaml").write_text("scenario: scenarios.minimal\nconfigurations: {one: {}}\n")
    other = experiments(tmp_path, "add", batch.path, "new.yaml")
    assert other.stderr == (
        "experiments: new.yaml, line 1: scenarios.minimal is not the scenario of this batch (experts:Experts); "
        "create a separate batch with `experiments generate`\n"
    )


@pytest.mark.slow
def test_runs_use_the_code_from_when_the_batch_was_generated(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCENARIO)
    (tmp_path / "helper.py").write_text("WIDTH = 5\n")
    (tmp_path / "random.py").write_text("raise SystemExit('a file of the user is not a Python module')\n")
    (tmp_path / "plan.yaml").write_text("scenario: mine.py\ndescription: d\nconfigurations: {one: {}, two: {}}\n")
    done = experiments(tmp_path, "generate", "plan.yaml")
    assert done.returncode == 0, done.stderr
    batch = Batch(tmp_path / "batches" / "plan" / "version_1")
    assert sorted(path.name for path in batch.code_dir.glob("*")) == [".git_state.json", "helper.py", "mine.py"]
    (tmp_path / "mine.py").write_text("broken")
    (tmp_path / "helper.py").unlink()
    assert experiments(tmp_path, "add", batch.path).returncode == 0
    moved = Batch(tmp_path / "moved")
    shutil.move(batch.path, moved.path)
    shown = job(moved, "two.02", "--show")
    assert shown.returncode == 0, shown.stderr
    assert "--model.units 5" in shown.stdout
    assert f"--trainer.output_dir {moved.path}/runs/two.02" in shown.stdout


def test_large_files_and_runs_are_not_copied_with_the_code(tmp_path: Path) -> None:
    package = tmp_path / "mine"
    (package / "old_run").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "helper.py").write_text("WIDTH = 5\n")
    (package / "scenario.py").write_text(SCENARIO.replace("from helper", "from mine.helper"))
    (package / "words.txt").write_text("a\n")
    (package / "old_run" / "run.json").write_text('{"format_version": 1}')
    with (package / "samples.npz").open("wb") as file:
        file.truncate(20_000_000)
    (tmp_path / "plan.yaml").write_text("scenario: mine\ndescription: d\nconfigurations: {one: {}}\n")
    done = experiments(tmp_path, "generate", "plan.yaml")
    assert done.returncode == 0, done.stderr
    assert "large files not copied with the code" in done.stderr
    copied = tmp_path / "batches" / "plan" / "version_1" / "code" / "mine"
    assert sorted(path.name for path in copied.iterdir()) == ["__init__.py", "helper.py", "scenario.py", "words.txt"]


def test_a_batch_from_python_can_be_added_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plan = Plan("experts", {"wide": Configuration({"trainer.epochs": 3}, repeat=2)}, "from Python")
    batch = generate(plan, Path("zoo"))
    assert batch.path == Path("zoo/version_1")
    assert experiments(tmp_path, "add", batch.path).returncode == 0
    assert names(batch) == ["wide.01", "wide.02", "wide.03", "wide.04"]
    with pytest.raises(UsageError, match="compare_to: runs/earlier: no such directory"):
        generate(dataclasses.replace(plan, compare_to="runs/earlier"), Path("zoo"))


@pytest.mark.parametrize(
    ("name", "fits"),
    [
        ("a.zoo", True),
        ("a.zoo.scenario:Zoo", True),
        ("a.zoo:Ark", False),
        ("zoo", False),
        ("there/a/zoo", True),
        ("a/zoo/scenario.py", True),
    ],
)
def test_a_scenario_has_several_names(name: str, fits: bool) -> None:
    assert _is_name_of_scenario(name, "a.zoo.scenario:Zoo") is fits


MISTAKES = {
    "genrate": "experiments has no command 'genrate'; did you mean generate?",
    "generate": "missing argument PLAN, or --scenario with --models. usage: experiments generate PLAN",
    "generate missing.yaml": "missing.yaml: cannot be read: No such file or directory",
    "generate a.yaml b.yaml": "expected one plan file, got a.yaml b.yaml",
    "generate a.yaml --scenario s": "--scenario and --models cannot be combined with a plan file",
    "generate --descripton x": "--descripton: unknown flag; did you mean --description?",
    "generate --scenario s --models a.b": "--models a.b: expected class.architecture=number",
    "generate --scenario s --models a=1,a=2": "--models a=2: duplicate model",
    "generate --scenario scenarios.tutorial --models Clasifier=1 --description d": (
        "--models: --model: unknown Model 'Clasifier'; did you mean Classifier?"
    ),
    "add": "missing argument BATCH. usage: experiments add BATCH [PLAN]",
    "submit nowhere": "nowhere: no such directory; create a batch with `experiments generate PLAN`",
    "submit .": ".: not a batch (missing batch.json); create a batch with `experiments generate PLAN`",
    "submit . --mem 4G": "--mem 4G: requires a cluster (--launcher)",
    "submit . --slurm --time soon": "--time soon: invalid format; expected a value such as 2:30:00",
    "submit . --jobs 0": "--jobs 0: must be at least 1",
    "submit . --gpus 1 1": "--gpus 1 1: duplicate GPU",
    "submit . --gpus -1": "--gpus -1: GPU indices start at 0",
    "submit . --slurm --launcher.sbatch array=0-3": "--launcher.sbatch array=0-3: array=0-3: use --jobs instead",
    "generate a.yaml --array 0": "--array 0: must be at least 1",
    "generate a.yaml --array 2 --debug": "--array 2: cannot be combined with --debug, which generates one run of each",
    "generate --scenario scenarios.tutorial --models Classifier.CNN=1,MPL=2 --description d": (
        "--models: --model.graph: unknown Graph 'MPL'; did you mean MLP?"
    ),
    "generate --scenario scenarios.tutorial --models Classifier.CNN=1,CNN=2 --description d": (
        "--models: Classifier.CNN: duplicate model"
    ),
    "submit . --slurm --time 0:02:00": ("--time 0:02:00: must exceed --save_seconds 120 and the startup time of a run"),
    "submit . --slurm --launcher.sbatch time=5": "--launcher.sbatch time=5: time=5: use --time instead",
    "submit . --slurm --launcher.sbatch output=x": "--launcher.sbatch output=x: output=x is set by the batch",
    "generate a.yaml --cpus 2 --slurm": "--launcher Slurm: requires --run; otherwise pass it to `experiments submit`",
    "generate a.yaml --debug --folder here": "--folder here: not available with --debug (temporary directory)",
    "generate --models a=1": "--models requires --scenario: no scenario.py in the current directory",
    "generate --scenario s": "--scenario requires --models with a number of runs: --models class.architecture=10",
    "submit . --job 3": "--job: unknown flag; did you mean --jobs?",
    "submit . --wait wide.01": "--wait: expected true, false or no value, got wide.01; other arguments go before flags",
    "submit . --wait a b": "--wait: expected true, false or no value, got a b; other arguments go before flags",
    "show nowhere": "nowhere: no such directory; create a batch with `experiments generate PLAN`",
    "show": ".: no batch in this directory or below it; create a batch with `experiments generate PLAN`",
    "compare": "missing argument BATCH. usage: experiments compare BATCH [RUN ...]",
    "cancel": "missing argument BATCH. usage: experiments cancel BATCH [RUN ...]",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_usage_errors_have_short_messages(words: str, tmp_path: Path) -> None:
    done = experiments(tmp_path, *words.split())  # not in this process, where other tests define further variants
    assert done.returncode == EXIT_USAGE
    assert done.stderr.split(" (choices: ")[0].strip() == f"experiments: {MISTAKES[words]}"


def test_a_pattern_without_a_match_lists_the_runs(tmp_path: Path) -> None:
    batch = generate_batch(tmp_path, TWO)
    done = experiments(tmp_path, "submit", batch.path, "wild")
    assert done.stderr == ("experiments: wild: no run or configuration matches; available: wide.01, wide.02, other\n")


@pytest.mark.parametrize("name", ["generate", "show", *map(slow, ("add", "submit", "compare", "cancel"))])
def test_help_needs_no_framework(name: str) -> None:
    code = (
        "import sys; from tfaip_like._cli.experiments import experiments; "
        f"experiments(['{name}', '--help']); assert not {{'tensorflow', 'keras'}} & set(sys.modules)"
    )
    done = subprocess.run([command()[0], "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"experiments {name} ")


def test_help_and_show_accept_flags_of_the_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    main(["generate", "plan.yaml", "--trainer.epochs", "3", "--help"])
    assert "Other flags are scenario parameters" in capsys.readouterr().out
    main(["generate", "plan.yaml", "--trainer.epochs", "3", "--debug", "true", "--show"])
    shown = capsys.readouterr().out.splitlines()
    assert shown[-1] == "--trainer.epochs 3  # forwarded"
    assert any(line.startswith("--debug true ") for line in shown)


def test_a_dry_run_lists_the_runs_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN + TWO)
    done = experiments(tmp_path, "generate", "plan.yaml", "--dry_run")
    assert done.stdout.splitlines() == [
        "3 runs of train-scenario experts would be generated:",
        "  wide.01  --trainer.epochs 3 --model.dropout 0.0 --trainer.output_dir runs/wide.01",
        "  wide.02  --trainer.epochs 3 --model.dropout 0.2 --trainer.output_dir runs/wide.02",
        "  other    --trainer.random_seed 7 --trainer.output_dir runs/other",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["plan.yaml"]
    batch = generate_batch(tmp_path, TWO)
    done = experiments(tmp_path, "add", batch.path, "--dry_run")
    assert done.stdout.splitlines()[1] == (
        "  wide.03   --trainer.epochs 3 --model.dropout 0.0 --trainer.random_seed 2 --trainer.output_dir runs/wide.03"
    )
    assert len(batch.read_index().runs) == 3


REPLACED = """
  first:
    optimizer: {class: SGD, momentum: 0.9, nesterov: true}
    train.resample: {class: Normal, target: y, mean: 0, std: 0.4}
  second:
    extends: first
    optimizer: {class: Adam, beta_1: 0.8}
    train.resample: {class: Uniform, target: y, low: -1, high: 1}
    repeat: 2
"""


def test_command_lines_of_a_dry_run_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plan.yaml").write_text(PLAN + REPLACED)
    main(["generate", str(tmp_path / "plan.yaml"), "--dry_run"])
    lines = [line.split(maxsplit=1)[1] for line in capsys.readouterr().out.splitlines()[1:]]
    assert lines[2] == (
        "--optimizer Adam --train.resample Uniform --train.resample.target y --optimizer.beta_1 0.8 "
        "--train.resample.low -1 --train.resample.high 1 --trainer.random_seed 2 --trainer.output_dir runs/second.02"
    )
    for line in lines:
        train_scenario(["experts", *shlex.split(line), "--show"])
        shown = capsys.readouterr().out
        assert all(flag.strip() in shown for flag in f" {line}".split(" --")), shown


def test_the_folders_of_a_batch_keep_the_setgid_bit_of_their_parent(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o2775)
    (tmp_path / "plan.yaml").write_text(PLAN + TWO)
    assert experiments(tmp_path, "generate", "plan.yaml", "--folder", "shared").returncode == 0
    folders = [path for path in shared.rglob("*") if path.is_dir()]
    assert len(folders) == 7
    assert all(path.stat().st_mode & 0o2000 for path in folders)


def test_a_run_name_selects_only_this_run() -> None:
    runs = tuple(BatchRun(name, "wide", {}, epochs=1, monitor="loss") for name in ("wide", "wide.02"))
    index = BatchIndex("s:S", "", "", ".", runs)
    assert [run.name for run in select_runs(index, ["wide"])] == ["wide"]
    assert [run.name for run in select_runs(index, ["wide*"])] == ["wide", "wide.02"]


def test_the_plan_of_named_models_contains_all_options(tmp_path: Path) -> None:
    flags = ["--scenario", "experts", "--models", "Line=2", "--trainer.epochs", "4", "--description", "by name"]
    assert experiments(tmp_path, "generate", *flags, "--name", "zoo").returncode == 0
    plan = read_plan(tmp_path / "batches" / "zoo" / "version_1" / "plan.yaml")
    assert (plan.description, {name: str(words) for name, words in plan.common.items()}) == (
        "by name",
        {"trainer.epochs": "4"},
    )
