"""Every mistake of a user gives a short message that says what to do, and exit code 2."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

# ruff: noqa: E501  (messages are quoted as they are printed)
import numpy as np
import pytest
from conftest import REPOSITORY, Run

from tfaip_like._cli.command import EXIT_USAGE, run_command
from tfaip_like._cli.train_scenario import train_scenario

GOOD = '''
import numpy as np
from tfaip_like import *

class Points(Data):
    """Two numbers and their sum."""
    path: str = "somewhere"
    inputs = {"x": Spec((2,))}
    targets = {"y": Spec((1,))}
    def source(self, mode):
        x = np.random.default_rng(0).random((40, 2), dtype="float32")
        return ArraySource({"x": x}, {"y": x.sum(axis=1, keepdims=True)})

class Part(Graph):
    def build(self, inputs):
        return inputs

class Wide(Part):
    width: int = 4
    def build(self, inputs):
        return keras.layers.Dense(self.width)(inputs)

class Linear(Model):
    graph: Graph = Part()
    units: list[int] = [3, 4]
    size: tuple[int, int] = (1, 2)
    best = "val_loss", "min"
    def build(self, inputs):
        return {"sum": keras.layers.Dense(1, name="add")(self.graph.build(inputs["x"]))}
    def loss(self, inputs, targets, outputs):
        return {"square": (targets["y"] - outputs["sum"])[:, 0] ** 2}
    def metrics(self, inputs, targets, outputs):
        return {"error": abs(targets["y"] - outputs["sum"])[:, 0]}

class Sums(Scenario):
    data: Data = Points()
    model: Model = Linear()
'''


@dataclass(frozen=True)
class Mistake:
    """What a user does wrong, and what the program says."""

    says: str
    """The message after `train-scenario: `; FOLDER is the current folder."""
    flags: str = ""
    scenario: str = "MODULE"
    change: tuple[str, str] = ("", "")
    """A piece of the good scenario and what the user wrote instead."""
    files: dict[str, str] = field(default_factory=dict)
    before: Callable[[Path], None] = lambda folder: None
    environment: dict[str, str] = field(default_factory=dict)
    needs_keras: bool = False
    """Whether it is found only when the data is opened or the network is built."""


def _used_folder(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "run.json").write_text('{"format_version": 1, "status": "done"}')
    (folder / "run" / "history.csv").write_text("epoch,loss\n1,0.5\n")


def _file_in_the_way(folder: Path) -> None:
    (folder / "run").write_text("a file")


def _other_weights(folder: Path) -> None:
    np.savez(folder / "other.npz", **{"sum/kernel": np.zeros((2, 1)), "add/bias": np.zeros(1)})  # type: ignore[arg-type]


MISTAKES = {
    # The scenario.
    "no scenario": Mistake(
        scenario="",
        says="missing argument SCENARIO; usage: train-scenario SCENARIO [--FLAG VALUE ...]\nSCENARIO is a module (scenarios.tutorial), a class (pkg.module:Class) or a file (my_scenario.py)",
    ),
    "two scenarios": Mistake(
        scenario="MODULE another", says="expected one scenario, got MODULE another; flags begin with two dashes"
    ),
    "unknown module": Mistake(scenario="MODUL", says="no module named 'MODUL' in FOLDER or on the Python path"),
    "unknown module of a package": Mistake(
        scenario="scenarios.tutoral",
        says="no module named 'scenarios.tutoral' in FOLDER or on the Python path; did you mean scenarios.tutorial?",
    ),
    "missing file": Mistake(scenario="nowhere/file.py", says="nowhere/file.py: no such file or directory"),
    "folder without a scenario": Mistake(
        scenario="./empty", files={"empty/readme.txt": ""}, says="./empty: no scenario.py in this directory"
    ),
    "unknown class": Mistake(scenario="MODULE:Sum", says="MODULE has no scenario 'Sum' (available: Sums)"),
    "class that is not a scenario": Mistake(scenario="MODULE:Points", says="MODULE:Points is not a Scenario"),
    "module without a scenario": Mistake(
        scenario="math", says="math defines no scenario (a class that extends tfaip_like.Scenario)"
    ),
    "two scenarios in a module": Mistake(
        change=("class Sums(", "class Other(Scenario):\n    pass\n\nclass Sums("),
        says="MODULE defines 2 scenarios; choose one: MODULE:Other or MODULE:Sums",
    ),
    "syntax error": Mistake(
        change=("class Sums(Scenario):", "class Sums(Scenario)"),
        says=("FOLDER/MODULE.py, line 35\n    class Sums(Scenario)\nSyntaxError: expected ':'"),
    ),
    "module that needs another": Mistake(
        change=("import numpy", "import nonumpy"),
        says=(
            "FOLDER/MODULE.py, line 2, in <module>\n"
            "    import nonumpy as np\n"
            "'nonumpy' is not installed; install it with pip"
        ),
    ),
    "error at import": Mistake(
        change=("class Sums(", "1 / 0\nclass Sums("),
        says=("FOLDER/MODULE.py, line 35, in <module>\n    1 / 0\nZeroDivisionError: division by zero"),
    ),
    "parameter without a type": Mistake(
        change=('    path: str = "somewhere"', '    path = "somewhere"'),
        says=(
            "FOLDER/MODULE.py, line 5, in <module>\n"
            "    class Points(Data):\n"
            "TypeError: Points.path has no type annotation, so it would not be a parameter: write `path: str = 'somewhere'`, or `path: ClassVar[str] = ...` for a constant"
        ),
    ),
    "parameter of an impossible type": Mistake(
        change=("path: str = ", "path: complex | str = "),
        flags="--data.path x",
        says=(
            "FOLDER/MODULE.py, line 7, in Points\n"
            '    path: complex | str = "somewhere"\n'
            "--data.path: <class 'complex'> cannot be the type of a parameter; use str, Path, bool, float, int, an Enum, Literal, None, another Params, or list[...], tuple[...], dict[str, ...] of them"
        ),
    ),
    "shape that is not a tuple": Mistake(
        change=("Spec((2,))", "Spec(2)"),
        says=(
            "FOLDER/MODULE.py, line 8, in Points\n"
            '    inputs = {"x": Spec(2)}\n'
            "TypeError: Spec(2): the shape must be a tuple of lengths, such as (28, 28), (None, 3) or ()"
        ),
    ),
    "unknown type of arrays": Mistake(
        change=("Spec((2,))", 'Spec((2,), "integer")'),
        says=(
            "FOLDER/MODULE.py, line 8, in Points\n"
            '    inputs = {"x": Spec((2,), "integer")}\n'
            "TypeError: Spec(..., 'integer'): unsupported dtype; expected one of float32, float16, bfloat16, float64, float8_e4m3fn, float8_e5m2, int8, int16, int32, int64, uint8, uint16, uint32, uint64, bool, complex64, complex128, str"
        ),
    ),
    "best without a direction": Mistake(
        change=('"val_loss", "min"', '"val_loss"'),
        says=(
            "FOLDER/MODULE.py, line 23, in <module>\n"
            "    class Linear(Model):\n"
            'TypeError: Linear.best is \'val_loss\'; expected a pair like ("val_accuracy", "max")'
        ),
    ),
    "parameter called like a flag of the command": Mistake(
        change=("class Sums(Scenario):", "class Sums(Scenario):\n    version: int = 1"),
        says=(
            "FOLDER/MODULE.py, line 35, in <module>\n"
            "    class Sums(Scenario):\n"
            "TypeError: Sums.version: --version is a flag of the commands; choose another name"
        ),
    ),
    "parameter called like a method": Mistake(
        change=("units: list[int] = [3, 4]", 'loss: str = "mse"'),
        says=(
            "FOLDER/MODULE.py, line 23, in <module>\n"
            "    class Linear(Model):\n"
            "TypeError: Linear.loss: Model has a method of this name; choose another name"
        ),
    ),
    "class in place of an instance": Mistake(
        change=("data: Data = Points()", "data: Data = Points"),
        says=(
            "FOLDER/MODULE.py, line 36, in Sums\n    data: Data = Points\n--data: expected an instance, got class Points; did you mean Points()?"
        ),
    ),
    "file called like a module of Python": Mistake(
        scenario="statistics.py",
        files={"statistics.py": GOOD},
        says="FOLDER/statistics.py: module name 'statistics' is already used by PYTHON/statistics.py; rename your file",
    ),
    # Flags.
    "misspelt flag": Mistake(
        flags="--trainer.epoch 3", says="--trainer.epoch: unknown flag; did you mean --trainer.epochs?"
    ),
    "flag without its group": Mistake(
        flags="--epochs 3", says="--epochs: unknown flag; did you mean --trainer.epochs?"
    ),
    "flag with dashes": Mistake(
        flags="--trainer.val-every-n 3",
        says="--trainer.val-every-n: unknown flag; did you mean --trainer.val_every_n?",
    ),
    "nonsense flag": Mistake(
        flags="--quux 3", says="--quux: unknown flag; --help all lists all flags, --help WORD searches them"
    ),
    "flag with one dash": Mistake(
        flags="-epochs 3", says="-epochs: flags begin with two dashes; did you mean --epochs?"
    ),
    "value with one dash": Mistake(
        flags="--data.path -x",
        says="-x: flags begin with two dashes (--x); to pass it as a value, write --data.path=-x",
    ),
    "flag given twice": Mistake(
        flags="--trainer.epochs 3 --trainer.epochs 4",
        says="--trainer.epochs: duplicate flag (list flags take several values)",
    ),
    "no value": Mistake(flags="--trainer.epochs", says="--trainer.epochs: expected an integer, got nothing"),
    "two values": Mistake(
        flags="--trainer.epochs 3 4", says="--trainer.epochs: expected one value, got 2: 3 4; quote a value with spaces"
    ),
    "words after an equals sign": Mistake(
        flags="--trainer.epochs=3 4",
        says="'4' follows --trainer.epochs=..., which takes a single value; write --trainer.epochs A B",
    ),
    "text for an integer": Mistake(
        flags="--trainer.epochs many", says="--trainer.epochs: expected an integer, got 'many'"
    ),
    "fraction for an integer": Mistake(
        flags="--trainer.epochs 2.5", says="--trainer.epochs: expected an integer, got '2.5'"
    ),
    "text for a number": Mistake(
        flags="--learning_rate.lr fast", says="--learning_rate.lr: expected a number, got 'fast'"
    ),
    "text for true or false": Mistake(
        flags="--train.shuffle maybe",
        says="--train.shuffle: expected true, false or no value, got maybe; other arguments go before flags",
    ),
    "text in a list of integers": Mistake(
        flags="--model.units 3 x", says="--model.units: expected an integer, got 'x'"
    ),
    "too few values for a pair": Mistake(
        flags="--model.size 3", says="--model.size: expected 2 values (INT INT), got 1"
    ),
    "dict without names": Mistake(
        flags="--model.loss_weights 3", says="--model.loss_weights: expected NAME=VALUE, got '3'"
    ),
    "broken JSON in a word": Mistake(
        flags="--model.units [3,",
        says="--model.units: expected an integer, got '[3,'",
    ),
    "index out of range": Mistake(
        flags="--model.units.7 3", says="--model.units.7: --model.units has no item '7' (valid: 0 to 1)"
    ),
    "part of a plain value": Mistake(
        flags="--trainer.epochs.first 3", says="--trainer.epochs.first: --trainer.epochs is INT and has no parts"
    ),
    "wrong choice": Mistake(
        flags="--device.backend theano", says="--device.backend: expected one of tensorflow, jax, torch, got 'theano'"
    ),
    "unknown variant": Mistake(
        flags="--optimizer Adamm",
        says="--optimizer: unknown Optimizer 'Adamm'; did you mean Adam? (choices: SGD, Adam, AdamW, Nadam, Lamb, Adamax, AdaBelief, RMSprop, Lion, Muon, Adagrad, Adadelta, Adafactor, Ftrl, ScheduleFreeAdamW)",
    ),
    "unknown variant, nothing near": Mistake(
        flags="--model.graph Transformer",
        says="--model.graph: unknown Graph 'Transformer'; choose one of Part, Wide",
    ),
    "variant of another kind": Mistake(
        flags="--optimizer tfaip_like.schedules:Constant",
        says="--optimizer: tfaip_like.schedules:Constant is not an Optimizer",
    ),
    "abstract variant": Mistake(
        flags="--optimizer tfaip_like.optimizers._optimizer:Optimizer",
        says="--optimizer: tfaip_like.optimizers._optimizer:Optimizer is abstract; choose one of SGD, Adam, AdamW, Nadam, Lamb, Adamax, AdaBelief, RMSprop, Lion, Muon, Adagrad, Adadelta, Adafactor, Ftrl, ScheduleFreeAdamW",
    ),
    "variant of an unknown module": Mistake(
        flags="--model.graph nothing.here:Graph",
        says="--model.graph: nothing.here:Graph: no module named 'nothing.here'",
    ),
    "class that is not a parameter": Mistake(
        flags="--model.graph os:system", says="--model.graph: os:system: os has no Params class 'system'"
    ),
    "flag of another variant": Mistake(
        flags="--model.graph.width 3",
        says="--model.graph.width: belongs to Wide, but --model.graph is Part; add --model.graph Wide",
    ),
    "flag of another optimizer": Mistake(
        flags="--optimizer.momentum 0.9",
        says="--optimizer.momentum: belongs to SGD, but --optimizer is Adam; add --optimizer SGD",
    ),
    "part of none": Mistake(
        flags="--evaluator.limit 3",
        says="--evaluator.limit: requires --evaluator; choose one of ClassificationEvaluator, ClassificationReport, "
        "RegressionEvaluator, SegmentationEvaluator, TextEvaluator",
    ),
    "required flag": Mistake(change=('path: str = "somewhere"', "path: str"), says="--data.path is required (TEXT)"),
    "out of range": Mistake(flags="--trainer.epochs 0", says="--trainer.epochs 0: must be at least 1"),
    "two clippings": Mistake(
        flags="--optimizer.clip_norm 1 --optimizer.clip_value 1",
        says="--optimizer.clip_norm 1.0: only one kind of gradient clipping can be used; keep one of clip_value, clip_norm",
    ),
    "exclusion without decay": Mistake(
        flags="--optimizer.exclude_from_weight_decay bias",
        says="--optimizer.exclude_from_weight_decay bias has no effect: no weight decay (set --optimizer.weight_decay)",
    ),
    "broken regular expression": Mistake(
        flags="--optimizer AdamW --optimizer.exclude_from_weight_decay (",
        says=(
            "--optimizer.exclude_from_weight_decay '(': '(' is not a regular expression: missing ), unterminated subpattern at position 0"
        ),
    ),
    "decay where it has no effect": Mistake(
        flags="--optimizer Ftrl --optimizer.weight_decay 0.1",
        says="--optimizer.weight_decay 0.1: has no effect in Ftrl; use l2_regularization_strength instead",
    ),
    "unequal lists": Mistake(
        flags="--learning_rate PiecewiseConstant --learning_rate.factors 0.1",
        says="--learning_rate.factors 0.1: 1 factors for 3 boundaries; expected one per boundary",
    ),
    "contradiction": Mistake(
        flags="--trainer.force_eager true --trainer.jit_compile true",
        says="--trainer.force_eager true: cannot be combined with --trainer.jit_compile or --trainer.steps_per_execution",
    ),
    "a profile without a folder": Mistake(
        flags="--trainer.profile true",
        says="--trainer.profile true: requires --trainer.output_dir",
    ),
    "completion of an unknown shell": Mistake(
        flags="--completion tcsh", says="--completion: expected one of bash, zsh, fish, got tcsh"
    ),
    "flag of a variant that another flag replaces": Mistake(
        flags="--model.graph.width 3 --model.graph Deep",
        change=(
            "class Wide(Part):",
            "class Deep(Graph):\n    depth: int = 1\n    def build(self, inputs):\n        pass\n\nclass Wide(Part):",
        ),
        says="--model.graph.width: belongs to Wide, but --model.graph is Deep; add --model.graph Wide",
    ),
    "empty path": Mistake(flags="--trainer.output_dir=", says="--trainer.output_dir: expected a path, got nothing"),
    "words after a flag that takes none": Mistake(flags="--show now", says="--show takes no value, got now"),
    "infinite learning rate": Mistake(
        flags="--learning_rate.lr inf", says="--learning_rate.lr inf: must be a finite number"
    ),
    "share above 1": Mistake(flags="--optimizer.beta_1 1.5", says="--optimizer.beta_1 1.5: must be in [0, 1)"),
    # Early stopping.
    "monitor without a mode": Mistake(
        flags="--early_stopping.monitor val_loss",
        says="--early_stopping.monitor val_loss: requires --early_stopping.mode min or max",
    ),
    "monitor that is never measured": Mistake(
        needs_keras=True,
        flags="--early_stopping.monitor val_acc --early_stopping.mode max",
        says="--early_stopping.monitor val_acc: unknown metric; available: loss, square, error, val_loss, val_square, val_error",
    ),
    "thresholds the wrong way round": Mistake(
        flags="--early_stopping.lower_threshold 0.9 --early_stopping.upper_threshold 0.1",
        says="--early_stopping.lower_threshold 0.9: must be below upper_threshold",
    ),
    "tests every 0 epochs": Mistake(
        flags="--early_stopping.frequency 0",
        says="--early_stopping.frequency 0: must be at least 1 epoch",
    ),
    "patience in a unit that does not exist": Mistake(
        flags="--early_stopping.n_to_go 5parsecs",
        says="--early_stopping.n_to_go 5parsecs: expected 0 (never), 3 (checks), 5epochs, 500steps, 30s, 10min or 2h",
    ),
    "validation in a unit that does not exist": Mistake(
        flags="--trainer.val_every_n 5parsecs",
        says="--trainer.val_every_n 5parsecs: expected 0 (no validation), 5 (epochs), 5epochs, 500steps, 30s, 10min or 2h",
    ),
    "validation every 0 steps": Mistake(
        flags="--trainer.val_every_n 0steps",
        says="--trainer.val_every_n 0steps: expected 0 (no validation), 5 (epochs), 5epochs, 500steps, 30s, 10min or 2h",
    ),
    "LAV every -1 epochs": Mistake(
        flags="--trainer.lav_every_n -1",
        says="--trainer.lav_every_n -1: expected 0 (no LAV), 5 (epochs), 5epochs, 500steps, 30s, 10min or 2h",
    ),
    "validation every half step": Mistake(
        flags="--trainer.val_every_n 1.5steps",
        says="--trainer.val_every_n 1.5steps: expected an integer number of epochs or steps",
    ),
    "warm-up by time": Mistake(
        flags="--learning_rate.warmup_epochs 10min",
        says="--learning_rate.warmup_epochs 10min: expected epochs (2.5 or 2.5epochs) or steps (500steps)",
    ),
    "boundaries in different units, not in order": Mistake(
        flags="--learning_rate PiecewiseConstant --learning_rate.boundaries 50 3steps --learning_rate.factors 0.5 0.1",
        says="--learning_rate.boundaries 50.0 3steps: must be increasing; an epoch has 2 steps",
        needs_keras=True,
    ),
    "fewer than no best checkpoints": Mistake(
        flags="--trainer.keep_best -1 --trainer.output_dir run",
        says="--trainer.keep_best -1: must be at least 0 (0 keeps none)",
    ),
    # Devices.
    "GPU that is not there": Mistake(
        flags="--device.gpus 3",
        environment={"CUDA_VISIBLE_DEVICES": ""},
        says=(
            "--device.gpus 3: TensorFlow finds no GPU; CUDA_VISIBLE_DEVICES is '' and hides all others\n"
            "If this machine has one, TensorFlow may lack CUDA support: pip install 'tensorflow[and-cuda]'"
        ),
    ),
    "GPU named twice": Mistake(flags="--device.gpus 0 1 0", says="--device.gpus 0 1 0: must not contain duplicates"),
    "GPU and no GPU": Mistake(
        flags="--device.gpus 0 -1", says="--device.gpus 0 -1: indices must be 0 or larger; -1 alone uses the CPU"
    ),
    # Files.
    "missing parameter file": Mistake(
        flags="--params none.json", says="none.json: cannot be read: No such file or directory"
    ),
    "no parameter file named": Mistake(flags="--params", says="--params: expected a JSON or YAML file"),
    "unreadable JSON": Mistake(
        flags="--params p.json",
        files={"p.json": '{"trainer":\n {"epochs": }}'},
        says="p.json, line 2: not valid JSON: Expecting value",
    ),
    "JSON that is not an object": Mistake(
        flags="--params p.json",
        files={"p.json": "[1]"},
        says=('p.json, line 1: expected an object with parameters, such as {"trainer": {"epochs": 3}}, got [1]'),
    ),
    "name twice in JSON": Mistake(
        flags="--params p.json",
        files={"p.json": '{"a": 1, "a": 2}'},
        says=("p.json, line 1: duplicate key 'a' (first in line 1)"),
    ),
    "unreadable YAML": Mistake(
        flags="--params p.yaml",
        files={"p.yaml": "trainer:\n  epochs: [3\n"},
        says="p.yaml, line 3: not valid YAML: expected ',' or ']', but got '<stream end>'",
    ),
    "name twice in YAML": Mistake(
        flags="--params p.yaml",
        files={"p.yaml": "trainer:\n  epochs: 3\n  epochs: 4\n"},
        says=("p.yaml, line 3: duplicate key 'epochs' (first in line 2)"),
    ),
    "unknown name in a file": Mistake(
        flags="--params p.json",
        files={"p.json": '{"trainer": {"epoch": 3}}'},
        says="p.json: trainer.epoch: unknown flag; did you mean --trainer.epochs?",
    ),
    "wrong type in a file": Mistake(
        flags="--params p.json",
        files={"p.json": '{"trainer": {"epochs": "x"}}'},
        says="p.json: trainer.epochs: expected an integer, got 'x'",
    ),
    "null in a file": Mistake(
        flags="--params p.json",
        files={"p.json": '{"trainer": {"epochs": null}}'},
        says="p.json: trainer.epochs: expected an integer, got null",
    ),
    "file of another scenario": Mistake(
        flags="--params p.json",
        files={"p.json": '{"class": "scenarios.minimal:Minimal"}'},
        says="p.json: parameters of the scenario scenarios.minimal:Minimal, expected MODULE:Sums",
    ),
    # The output folder.
    "folder with a run": Mistake(
        needs_keras=True,
        flags="--trainer.output_dir run",
        before=_used_folder,
        says=(
            "--trainer.output_dir run: already contains a run (status done).\n"
            "Run `resume-training run` to continue it, or choose another directory for a new run."
        ),
    ),
    "folder that is a file": Mistake(
        needs_keras=True,
        flags="--trainer.output_dir run",
        before=_file_in_the_way,
        says="--trainer.output_dir run: cannot be written: File exists",
    ),
    "folder that cannot be written": Mistake(
        needs_keras=True,
        flags="--trainer.output_dir /proc/run",
        says="--trainer.output_dir /proc/run: cannot be written: No such file or directory",
    ),
    # Data.
    "no samples": Mistake(
        needs_keras=True,
        change=("return ArraySource(", "return []\n        ArraySource("),
        says=(
            "FOLDER/MODULE.py, line 12, in Points.source\n"
            "    return []\n"
            "Points.source(Mode.TRAIN) returned an empty source; training requires samples"
        ),
    ),
    "source without a length": Mistake(
        needs_keras=True,
        change=("return ArraySource(", "return iter([])\n        ArraySource("),
        says="--trainer.samples_per_epoch is required: the source of Points has no __len__",
    ),
    "sources of unequal length": Mistake(
        needs_keras=True,
        change=('{"x": x}', '{"x": x[1:]}'),
        says=(
            "FOLDER/MODULE.py, line 12, in source\n"
            '    return ArraySource({"x": x[1:]}, {"y": x.sum(axis=1, keepdims=True)})\n'
            "ArraySource: arrays differ in their number of rows (x: 39, y: 40)"
        ),
    ),
    "sample of a wrong kind": Mistake(
        needs_keras=True,
        change=("return ArraySource(", "return [3]\n        ArraySource("),
        says=(
            "FOLDER/MODULE.py, line 12, in Points.source\n"
            "    return [3]\n"
            "training sample 0 of Points is an int, expected Sample(inputs=..., targets=...) or (x, y)"
        ),
    ),
    "wrong shape": Mistake(
        needs_keras=True,
        change=("Spec((2,))", "Spec((3,))"),
        says=(
            "FOLDER/MODULE.py, line 12, in Points.source\n"
            '    return ArraySource({"x": x}, {"y": x.sum(axis=1, keepdims=True)})\n'
            "training sample 0 of Points: input 'x' has shape (2,), but its Spec says (3,)"
        ),
    ),
    "wrong type of array": Mistake(
        needs_keras=True,
        change=("Spec((1,))", 'Spec((1,), "int32")'),
        says=(
            "FOLDER/MODULE.py, line 12, in Points.source\n"
            '    return ArraySource({"x": x}, {"y": x.sum(axis=1, keepdims=True)})\n'
            "training sample 0 of Points: target 'y' has dtype float32, which cannot be cast to the int32 of its Spec"
        ),
    ),
    "missing target": Mistake(
        needs_keras=True,
        change=('{"y": x.sum(axis=1, keepdims=True)}', "{}"),
        says=(
            "FOLDER/MODULE.py, line 12, in Points.source\n"
            '    return ArraySource({"x": x}, {})\n'
            "training sample 0 of Points: target 'y' is missing (available: none)"
        ),
    ),
    "no inputs": Mistake(
        needs_keras=True,
        change=('    inputs = {"x": Spec((2,))}\n', "    inputs = {}\n"),
        says=(
            "FOLDER/MODULE.py, line 8, in Points\n"
            "    inputs = {}\n"
            "Points.inputs is empty: the network needs at least one input"
        ),
    ),
    "specification that is none": Mistake(
        needs_keras=True,
        change=("Spec((2,))", "(2,)"),
        says=(
            "FOLDER/MODULE.py, line 8, in Points\n"
            '    inputs = {"x": (2,)}\n'
            "Points.inputs: 'x' is (2,), expected 'name': Spec(shape, dtype)"
        ),
    ),
    "processor that returns nothing": Mistake(
        needs_keras=True,
        flags="--data.processors Lost --trainer.random_seed 1 --train.shuffle false",
        change=(
            "class Part(Graph)",
            "class Lost(Processor):\n    def process(self, sample, random):\n        pass\n\nclass Part(Graph)",
        ),
        says=(
            "FOLDER/MODULE.py, line 15, in Lost.process\n"
            "    def process(self, sample, random):\n"
            "100 consecutive training samples of Points were dropped, starting at sample 0; Lost dropped the last one (does its `process` return the sample?)"
        ),
    ),
    "less than a batch in an epoch": Mistake(
        needs_keras=True,
        flags="--trainer.samples_per_epoch 5",
        says="--trainer.samples_per_epoch 5 is less than one step (--train.batch_size 16)",
    ),
    "NaN in the data": Mistake(
        needs_keras=True,
        flags="--train.shuffle false --trainer.sanity_check false",
        change=("keepdims=True)", "keepdims=True) * np.where(np.arange(40) == 3, np.nan, 1)[:, None]"),
        says=(
            "non-finite loss (square) at epoch 1, step 1 (global step 1).\n"
            "NaN or infinity in the data: target 'y' of training sample 3 of Points."
        ),
    ),
    "metric object of Keras": Mistake(
        needs_keras=True,
        change=('abs(targets["y"] - outputs["sum"])[:, 0]}', "keras.metrics.MeanSquaredError()}"),
        says=(
            "FOLDER/MODULE.py, line 33, in Linear.metrics\n"
            '    return {"error": keras.metrics.MeanSquaredError()}\n'
            "Linear.metrics: 'error' is a metric object; return it from `make_metrics`, and the arguments of its update_state here: {'error': (targets[...], outputs[...])}"
        ),
    ),
    # The model.
    "network that is not a dict": Mistake(
        needs_keras=True,
        change=('return {"sum": ', 'return [] and {"sum": '),
        says=(
            "FOLDER/MODULE.py, line 29, in Linear.build\n"
            '    return [] and {"sum": keras.layers.Dense(1, name="add")(self.graph.build(inputs["x"]))}\n'
            "Linear.build returned a list; it must return named tensors: {'name': tensor, ...}"
        ),
    ),
    "loss that is not a dict": Mistake(
        needs_keras=True,
        change=('return {"square": ', 'return [] and {"square": '),
        says=(
            "FOLDER/MODULE.py, line 31, in Linear.loss\n"
            '    return [] and {"square": (targets["y"] - outputs["sum"])[:, 0] ** 2}\n'
            "Linear.loss returned a list; it must return {'name': tensor, ...}"
        ),
    ),
    "loss that is not a scalar": Mistake(
        needs_keras=True,
        change=('outputs["sum"])[:, 0] ** 2', 'outputs["sum"]) ** 2'),
        says=(
            "FOLDER/MODULE.py, line 31, in Linear.loss\n"
            '    return {"square": (targets["y"] - outputs["sum"]) ** 2}\n'
            "Linear.loss: 'square' has shape (16, 1) for a batch of 16; expected a scalar or shape (16,); reduce over the remaining axes"
        ),
    ),
    "no loss": Mistake(
        needs_keras=True,
        change=('return {"square": ', 'return {}\n        {"square": '),
        says=(
            "FOLDER/MODULE.py, line 31, in Linear.loss\n"
            "    return {}\n"
            "Linear.loss returned an empty dict; at least one loss is required"
        ),
    ),
    "reserved name": Mistake(
        needs_keras=True,
        change=('"square"', '"loss"'),
        says=(
            "FOLDER/MODULE.py, line 31, in Linear.loss\n"
            '    return {"loss": (targets["y"] - outputs["sum"])[:, 0] ** 2}\n'
            "Linear: 'loss' is reserved by the trainer and cannot be the name of a loss or metric"
        ),
    ),
    "loss and metric of one name": Mistake(
        needs_keras=True,
        change=('"error"', '"square"'),
        says=(
            "FOLDER/MODULE.py, line 33, in Linear.metrics\n"
            '    return {"square": abs(targets["y"] - outputs["sum"])[:, 0]}\n'
            "Linear: 'square' is both a loss and a metric; remove the metric, losses are always logged"
        ),
    ),
    "weight of an unknown loss": Mistake(
        needs_keras=True,
        flags="--model.loss_weights.ctc 2",
        says="--model.loss_weights.ctc: Linear has no such loss; available: square",
    ),
    "monitor that is never logged": Mistake(
        needs_keras=True,
        change=('"val_loss", "min"', '"val_f1", "max"'),
        says='FOLDER/MODULE.py, line 27, in Linear\n    best = "val_f1", "max"\n'
        "Model.best refers to the unknown metric 'val_f1'; available: loss, square, error, val_loss, val_square, val_error",
    ),
    "targets fed without a prediction network": Mistake(
        needs_keras=True,
        change=("    best =", '    feed_targets = ("y",)\n    best ='),
        says=(
            "FOLDER/MODULE.py, line 27, in Linear\n"
            '    feed_targets = ("y",)\n'
            "Linear.feed_targets: targets are not available in prediction; define an inference network in `build_prediction`"
        ),
    ),
    "filter without a name of a value": Mistake(
        flags="--train.filter RangeFilter",
        says="--train.filter.0.name is required (TEXT)",
    ),
    "filter of a value that is not there": Mistake(
        needs_keras=True,
        flags="--train.filter RangeFilter --train.filter.0.name z",
        says="the source has no 'z'; available: x, y",
    ),
    "filter of an array without a component": Mistake(
        needs_keras=True,
        flags="--train.filter RangeFilter --train.filter.0.name x",
        says="'x' has shape (2,); set component to select a scalar",
    ),
    "filter that leaves nothing": Mistake(
        needs_keras=True,
        flags="--train.filter RangeFilter --train.filter.0.name x --train.filter.0.component 1 --train.filter.0.low 2",
        says="--train.filter: no sample of Points passes the filters",
    ),
    "balance without a class": Mistake(
        needs_keras=True,
        flags="--train.balance sample",
        says=(
            "FOLDER/MODULE.py, line 5, in Points\n"
            "    class Points(Data):\n"
            "balance: the class of a sample of Points is ambiguous (0 scalar integer targets); define class_label(self, sample)"
        ),
    ),
    "balance and resampling together": Mistake(
        flags="--train.balance sample --train.resample Uniform --train.resample.target y",
        says="--train.balance sample: cannot be combined with resample: both set the sampling weights",
    ),
    "buckets and balanced sampling together": Mistake(
        flags="--train.balance sample --train.buckets 3",
        says="--train.balance sample: cannot be combined with length buckets, which use each sample once",
    ),
    "two kinds of buckets": Mistake(
        flags="--train.bucket_boundaries 3 5 --train.buckets 3",
        says="--train.bucket_boundaries 3 5: cannot be combined with buckets",
    ),
    "boundaries of buckets that do not rise": Mistake(
        flags="--train.bucket_boundaries 5 3",
        says="--train.bucket_boundaries 5 3: must be in ascending order",
    ),
    "negative number of data workers": Mistake(
        flags="--train.num_processes -1",
        says="--train.num_processes -1: must not be negative",
    ),
    "lists for a scenario without lists": Mistake(
        flags="--train.lists a.lst",
        says="--train.lists: unknown flag; did you mean --train.limit?",
    ),
    "class weights for a loss that is one number": Mistake(
        needs_keras=True,
        change=(
            '"square": (targets["y"] - outputs["sum"])[:, 0] ** 2}\n',
            '"square": ops.mean((targets["y"] - outputs["sum"]) ** 2)}\n\nPoints.class_label = lambda self, sample: 1\n\nclass More(Linear):\n',
        ),
        flags="--train.balance loss",
        says="--train.balance loss: Linear.loss returns a scalar for 'square'; class weights require one value per sample",
    ),
    "resampling of a target that does not vary": Mistake(
        needs_keras=True,
        flags="--train.resample Uniform --train.resample.target x --train.resample.component 0 --train.resample.low 2 --train.resample.high 1",
        says="resample: 'x' has an empty value range (2 to 1)",
    ),
    "an image that is none": Mistake(
        needs_keras=True,
        change=(
            "class Sums(Scenario):\n",
            "from tfaip_like.summaries import Image\nclass Look(Evaluator):\n    def evaluate(self, samples):\n"
            '        return {"picture": Image(np.zeros(5))}\n\nclass Sums(Scenario):\n    evaluator: Evaluator = Look()\n',
        ),
        flags="--trainer.epochs 1 --trainer.sanity_check false",
        says=(
            "FOLDER/MODULE.py, line 38, in Look.evaluate\n"
            '    return {"picture": Image(np.zeros(5))}\n'
            "Look.evaluate: 'picture' is an image of shape (5,); expected (height, width), (height, width, 1) or (height, width, 3)"
        ),
    ),
    "summary of a wrong type": Mistake(
        needs_keras=True,
        change=(
            "class Sums(Scenario):\n",
            'class ShowingNothing(Linear):\n    def summaries(self, inputs, targets, outputs):\n        return {"sum": outputs["sum"]}\n\n'
            "class Sums(Scenario):\n",
        ),
        flags="--model ShowingNothing --trainer.epochs 1 --trainer.sanity_check false",
        says=(
            "FOLDER/MODULE.py, line 37, in ShowingNothing.summaries\n"
            '    return {"sum": outputs["sum"]}\n'
            "ShowingNothing.summaries: 'sum' is a ndarray; expected a summary of tfaip_like.summaries, such as Image(...)"
        ),
    ),
    "exclusion that matches nothing": Mistake(
        needs_keras=True,
        flags="--optimizer AdamW --optimizer.exclude_from_weight_decay norm",
        says="--optimizer.exclude_from_weight_decay norm: no trainable weight matches; available: add/kernel, add/bias",
    ),
    # Warm start and freezing.
    "warm start without a model": Mistake(
        flags="--warmstart.exclude add",
        says="--warmstart.exclude add has no effect: requires --warmstart.model",
    ),
    "renaming without an arrow": Mistake(
        flags="--warmstart.model run --warmstart.rename add/",
        says="--warmstart.rename add/: 'add/': expected FROM->TO",
    ),
    "renaming to a group that is not there": Mistake(
        flags="--warmstart.model run --warmstart.rename add->\\1",
        says=(
            "--warmstart.rename 'add->\\1': '\\\\1' is not a valid replacement: invalid group reference 1 at position 1"
        ),
    ),
    "warm start from nowhere": Mistake(
        needs_keras=True, flags="--warmstart.model runs/a", says="--warmstart.model runs/a: no such file or directory"
    ),
    "warm start from a folder without weights": Mistake(
        needs_keras=True,
        flags="--warmstart.model run",
        files={"run/train.log": ""},
        says=(
            "--warmstart.model run: contains no weights; expected a run directory, an export (weights.npz or "
            "model.keras), a checkpoint (variables.npz), or a .keras, .h5, .npz or .json file"
        ),
    ),
    "warm start from a broken file": Mistake(
        needs_keras=True,
        flags="--warmstart.model run",
        files={"run/weights.npz": "half"},
        says="--warmstart.model run/weights.npz: cannot be read as .npz: truncated file or unsupported format",
    ),
    "warm start from another network": Mistake(
        needs_keras=True,
        flags="--warmstart.model other.npz",
        before=_other_weights,
        says=(
            "--warmstart.model other.npz: 1 of 2 weights cannot be loaded from other.npz:\n"
            "add/kernel (2, 1) is missing (did you mean sum/kernel (2, 1)?).\n"
            "If names differ, use --warmstart.rename FROM->TO; to load matching weights only, use "
            "--warmstart.exclude PATTERN or --warmstart.allow_partial true."
        ),
    ),
    "renaming of nothing": Mistake(
        needs_keras=True,
        flags="--warmstart.model other.npz --warmstart.rename body/->",
        before=_other_weights,
        says="--warmstart.rename body/->: matches no weight in other.npz; available: sum/kernel, add/bias",
    ),
    "exclusion of nothing from a warm start": Mistake(
        needs_keras=True,
        flags="--warmstart.model other.npz --warmstart.exclude head",
        before=_other_weights,
        says=("--warmstart.exclude head: matches no weight of the network; available: add/kernel, add/bias"),
    ),
    "freezing by no regular expression": Mistake(
        flags="--trainer.no_train_scope (add",
        says=(
            "--trainer.no_train_scope '(add': '(add' is not a regular expression: missing ), unterminated subpattern at position 0"
        ),
    ),
    "freezing of nothing": Mistake(
        needs_keras=True,
        flags="--trainer.no_train_scope encoder",
        says="--trainer.no_train_scope encoder: no layer with weights matches; closest: add",
    ),
    "freezing of everything": Mistake(
        needs_keras=True,
        flags="--trainer.no_train_scope .*",
        says="--trainer.no_train_scope .* freezes all trainable weights (matched: add)",
    ),
}

BEFORE_KERAS = [name for name, mistake in MISTAKES.items() if not mistake.needs_keras]
WITH_KERAS = [name for name, mistake in MISTAKES.items() if mistake.needs_keras]


def write_scenario(mistake: Mistake, folder: Path, module: str) -> list[str]:
    """Write what the user wrote, and return the words that they typed."""
    scenario = GOOD.replace(*mistake.change) if mistake.change[0] else GOOD
    assert (scenario != GOOD) == bool(mistake.change[0]), "the change does not fit the scenario"
    (folder / f"{module}.py").write_text(scenario)
    for name, text in mistake.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    mistake.before(folder)
    return f"{mistake.scenario} {mistake.flags}".replace("MODULE", module).split()


def message(stderr: str, folder: Path, module: str) -> str:
    python = str(Path(os.__file__).parent)
    printed = stderr.replace(str(folder), "FOLDER").replace(module, "MODULE").replace(python, "PYTHON")
    return printed[printed.index("train-scenario: ") :].removeprefix("train-scenario: ").rstrip("\n")


@pytest.mark.parametrize("name", BEFORE_KERAS)
def test_a_command_line_error_has_a_short_message(name: str, tmp_path: Path, quick_run: Run) -> None:
    mistake = MISTAKES[name]
    words = write_scenario(mistake, tmp_path, "my_sums")
    done = quick_run(
        "train-scenario", *words, cwd=tmp_path, environment={"PYTHONPATH": str(REPOSITORY), **mistake.environment}
    )
    assert message(done.stderr, tmp_path, "my_sums") == mistake.says
    assert done.returncode == EXIT_USAGE
    assert done.stdout == ""


@pytest.mark.parametrize("name", WITH_KERAS)
def test_an_error_in_a_scenario_has_a_short_message(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    mistake = MISTAKES[name]
    module = f"my_sums_{WITH_KERAS.index(name)}"  # Python keeps what it imported
    words = write_scenario(mistake, tmp_path, module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert run_command("train-scenario", train_scenario, words) == EXIT_USAGE
    assert message(capfd.readouterr().err, tmp_path, module) == mistake.says


def test_every_message_has_at_most_three_lines() -> None:
    assert len(MISTAKES) >= 40
    assert not [name for name, mistake in MISTAKES.items() if mistake.says.count("\n") > 2]
