"""Validation while training: each sample once, evaluators, examples; and what processors drop."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run, slow
from small import Largest, Points, Small, small

from tfaip_like import Evaluator, Mode, Processor, Sample, Scenario, UsageError, train
from tfaip_like.data import DropSample, TrainLoaderSettings, ValLoaderSettings
from tfaip_like.data._loader.dropped_samples import DroppedSample, DropReport
from tfaip_like.data._loader.loader_factory import open_training, open_validation
from tfaip_like.settings import Trainer

READ: Counter[int] = Counter()
JUDGED: list[int] = []


class Reads(Points):
    """Counts how often each validation sample is read."""

    def source(self, mode: Mode) -> Sequence[Sample] | None:
        source = super().source(mode)
        assert source is not None
        if mode is Mode.TRAIN:
            return source
        return Counting(source)


class Counting(Sequence[Sample]):
    """Samples that are counted when they are read."""

    def __init__(self, samples: Sequence[Sample]):
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: Any) -> Any:
        READ[index] += 1
        return self.samples[index]


class Judge(Largest):
    """Notes how many samples it judged."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        values = super().evaluate(samples)
        JUDGED.append(int(values["count"]))
        return values


class Lazy(Evaluator):
    """Looks at the first sample only."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
        return {"first": float(next(iter(samples)).outputs["sum"])}


ONCE = {"epochs": 1, "sanity_check": False}


@pytest.mark.parametrize("evaluator", [slow(None), slow(Judge()), Lazy()])
def test_validation_reads_each_sample_once(evaluator: Evaluator | None) -> None:
    READ.clear()
    train(small(data=Reads(), evaluator=evaluator, trainer=ONCE, val={"num_processes": 0}))
    del READ[0]  # which is looked at when the data are opened
    assert Counter(range(1, 100)) == READ


def test_losses_of_a_validation_do_not_depend_on_its_evaluator() -> None:
    rows = [train(small(evaluator=evaluator, trainer=ONCE)).history[-1] for evaluator in (None, Largest(), Lazy())]
    for row in rows:
        assert row["val_loss"] == rows[0]["val_loss"]
        assert row["val_error"] == rows[0]["val_error"]
    assert rows[1]["val_count"] == 100


def test_an_evaluator_can_be_for_load_and_validate_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    row = train(small(tmp_path / "a", evaluator=Judge(lav_only=True), trainer={**ONCE, "lav_every_n": 1})).history[-1]
    assert "val_count" not in row
    assert row["lav_count"] == 100
    train(small(evaluator=Judge(lav_only=True), trainer=ONCE))
    assert "--evaluator.lav_only: Judge is not used" in caplog.text


def test_values_of_a_lav_only_evaluator_are_not_monitored_in_validation() -> None:
    changed = small(
        evaluator=Judge(lav_only=True), trainer=ONCE, early_stopping={"monitor": "val_count", "mode": "max"}
    )
    with pytest.raises(UsageError, match="EarlyStopping.monitor val_count: unknown metric"):
        train(changed)


class Talks(Small):
    """Says something of each sample."""

    def example_text(self, sample: Sample) -> str | None:
        return f"answer {float(sample.outputs['sum']):.2f} for {float(sample.targets['y']):.2f}"


def printed_lines(caplog: pytest.LogCaptureFixture, scenario: Scenario) -> list[str]:
    caplog.clear()
    caplog.set_level(logging.INFO)
    train(scenario)
    return [record.message for record in caplog.records if record.message.startswith("example ")]


@pytest.mark.parametrize(
    ("limit", "evaluator", "lines"), [slow(0, None, 0), slow(2, None, 4), (2, Largest(), 4), (-1, None, 200)]
)
def test_each_validation_prints_examples(
    limit: int, evaluator: Evaluator | None, lines: int, caplog: pytest.LogCaptureFixture
) -> None:
    scenario = small(evaluator=evaluator, trainer={"epochs": 2, "print_eval_limit": limit})
    scenario = Talks(**{field.name: getattr(scenario, field.name) for field in dataclasses.fields(scenario)})
    printed = printed_lines(caplog, scenario)
    assert len(printed) == lines
    assert all(line.split(": ")[1].startswith("answer ") for line in printed)


def test_examples_show_targets_and_outputs_by_default(caplog: pytest.LogCaptureFixture) -> None:
    printed = printed_lines(caplog, small(trainer=ONCE))
    assert len(printed) == Trainer().print_eval_limit
    assert printed[0].startswith("example 1: target y ")
    assert ", output sum " in printed[0]


class TypoInText(Small):
    """A mistake in what is printed."""

    def example_text(self, sample: Sample) -> Any:
        return 3


def test_a_text_of_examples_that_is_none_is_rejected_before_the_first_epoch() -> None:
    with pytest.raises(UsageError, match=r"TypoInText.example_text returned an int; it must return a string"):
        train(TypoInText())


class Narrow(Processor):
    """Drops some samples."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        if float(sample.inputs["x"][0]) < 0.1:
            raise DropSample("too narrow")
        return sample


class Silent(Processor):
    """Drops some samples without a reason, in training only."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        return None if float(sample.inputs["x"][1]) > 0.9 else sample


def dropped_lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if " dropped " in record.message]


@pytest.mark.parametrize("num_processes", [0, 2])
@pytest.mark.parametrize("cache", ["none", "memory"])
def test_dropped_samples_are_reported_once_with_count_stage_reason_and_names(
    num_processes: int, cache: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = Points(processors=[Narrow(), Silent()])
    source = data.source(Mode.TRAIN)
    assert source is not None
    narrow = [number for number, sample in enumerate(source) if sample.inputs["x"][0] < 0.1]
    wide = [n for n, sample in enumerate(source) if n not in narrow and sample.inputs["x"][1] > 0.9]
    settings = TrainLoaderSettings(batch_size=8, num_processes=num_processes, shuffle=False, cache=cache)
    batches = open_training(data, source, settings, None, 7)
    list(batches.iter_training(0, 2 * batches.steps_per_epoch + 1))
    batches.close()
    first = [f"training sample {number} of Points" for number in narrow[:3]]
    lines = sorted(dropped_lines(caplog))
    assert len(lines) == 2
    assert f"--train: Narrow dropped {len(narrow)} of 100 samples ({first[0]}: too narrow; {first[1]}: too" in lines[0]
    assert f"and {len(narrow) - 3} more)" in lines[0]
    assert f"--train: Silent dropped {len(wide)} of 100 samples (training sample {wide[0]} of Points; " in lines[1]


def test_dropped_validation_samples_are_reported_after_the_first_pass(caplog: pytest.LogCaptureFixture) -> None:
    data = Points(processors=[Narrow()])
    batches = open_validation(data, data.source(Mode.EVALUATE), ValLoaderSettings(num_processes=0), 7)
    assert batches is not None
    count = sum(len(batch) for batch in batches.iter_pass())
    assert dropped_lines(caplog)[0].startswith(f"--val: Narrow dropped {100 - count} of 100 samples (")
    list(batches.iter_pass())
    batches.close()
    assert len(dropped_lines(caplog)) == 1


class DropOutputs(Processor):
    """A post-processor that drops."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample | None:
        return None if float(sample.inputs["x"][0]) < 0.1 else sample


def test_samples_dropped_by_post_processors_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    train(small(data=Points(post_processors=[DropOutputs()]), trainer=ONCE))
    (line,) = dropped_lines(caplog)
    assert line.startswith("--val: DropOutputs dropped ")


def test_a_report_names_what_is_new_only_once(caplog: pytest.LogCaptureFixture) -> None:
    report = DropReport("--val")
    report.log(10)
    report.record([DroppedSample(4, "Cut", "no ink")], str)
    report.record([DroppedSample(4, "Cut", "no ink")], str)
    report.log(10)
    report.log(10)
    assert dropped_lines(caplog) == ["--val: Cut dropped 1 of 10 samples (4: no ink)"]
    report.record([DroppedSample(5, "Cut", "")], str)
    report.log(None)
    assert dropped_lines(caplog)[1] == "--val: Cut dropped 2 samples (4: no ink; 5)"


def test_modes_of_a_processor_are_a_parameter(quick_run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    environment = {"PYTHONPATH": str(Path(__file__).parent)}
    flags = ["--data.processors.0.modes", "train", "predict", "--data.processors.1.modes", "evaluate"]
    done = quick_run("train-scenario", "mine.py", "--trainer.epochs", 1, *flags, cwd=tmp_path, environment=environment)
    assert done.returncode == 0, done.stderr
    assert "--train: Narrow dropped" in done.stderr
    assert "--val: Silent dropped" in done.stderr
    assert "--val: Narrow" not in done.stderr
    assert "--train: Silent" not in done.stderr
    for words, printed in ((["none"], "at least one of TRAIN, EVALUATE, PREDICT"), (["sometimes"], "sometimes")):
        wrong = ["--data.processors.0.modes", *words]
        done = quick_run("train-scenario", "mine.py", *wrong, cwd=tmp_path, environment=environment)
        assert done.returncode == 2
        assert printed in done.stderr


MINE = """
from test_validation import Narrow, Silent
from small import Line, Points, Small
from tfaip_like import Data, Model

class Mine(Small):
    data: Data = Points(processors=[Narrow(), Silent()])
    model: Model = Line()
"""


def test_modes_are_a_default_of_the_class_and_a_parameter_of_the_instance() -> None:
    data = Points(processors=[Silent(), Silent(modes=(Mode.EVALUATE,)), Narrow(modes=(Mode.PREDICT,))])
    assert data.pipeline(Mode.TRAIN) == [data.processors[0]]
    assert data.pipeline(Mode.EVALUATE) == [data.processors[1]]
    assert data.pipeline(Mode.PREDICT) == [data.processors[2]]
    assert type(data).from_dict(data.to_dict()) == data
