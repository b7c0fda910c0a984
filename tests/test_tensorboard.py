"""What TensorBoard finds of a run: its event files are read back as it reads them."""

from __future__ import annotations

import io
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from PIL import Image as PillowImage
from small import Largest, Line, Points, small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as PluginEventAccumulator
from tensorboard.data.provider import RunTagFilter
from tensorboard.data.server_ingester import SubprocessServerDataIngester, get_server_binary
from tensorboard.plugins.hparams.api_pb2 import STATUS_FAILURE, STATUS_SUCCESS
from tensorboard.plugins.hparams.metadata import (
    SESSION_END_INFO_TAG,
    SESSION_START_INFO_TAG,
    parse_session_end_info_plugin_data,
    parse_session_start_info_plugin_data,
)
from tensorboard.util.grpc_util import ChannelCredsType
from tensorboard.util.tensor_util import make_ndarray

from tfaip_like import Sample, TrainingError, UsageError, train
from tfaip_like._runs.output_dir import OutputDir
from tfaip_like._training.loggers.logged_values import LoggedEpoch, collect_hyperparameters
from tfaip_like._training.loggers.training_loggers import TrainingLoggers
from tfaip_like._user_code.code_errors import innermost_user_frame
from tfaip_like._utils.interruption import InterruptFlag
from tfaip_like._utils.pixels import encode_png, to_rgb
from tfaip_like.data import Arrays
from tfaip_like.data._loader.batching import Batch
from tfaip_like.evaluation._evaluation import collect_summaries, run_evaluator
from tfaip_like.loggers._summary_protos import to_summary_proto
from tfaip_like.modeling._network import build_networks, make_predict_fn
from tfaip_like.optimizers import SGD, AdamW
from tfaip_like.schedules import Constant
from tfaip_like.summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text


def events(folder: Path) -> EventAccumulator:
    accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    accumulator.Reload()
    return accumulator


def tensor(folder: Path, tag: str, number: int = -1) -> Any:
    return make_ndarray(events(folder).Tensors(tag)[number].tensor_proto)


class Plot:
    """Saves itself as a figure of matplotlib does."""

    def savefig(self, file: io.BytesIO, format: str) -> None:
        assert format == "png"
        file.write(encode_png(to_rgb(np.eye(5))))


class Everything(Largest):
    """Numbers and all kinds of summaries."""

    def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
        kept = list(samples)
        targets = np.array([float(sample.targets["y"]) for sample in kept])
        return {
            **super().evaluate(kept),
            "ramp": Image(np.linspace(0, 1, 12).reshape(3, 4)),
            "plot": Figure(Plot()),
            "is_large": PRCurve(targets > 1, targets / 2),
            "note": Text.table(["x", "y"], [[1, "a|b"]]),
            "targets": Histogram(targets),
        }


class Showing(Line):
    """Shows the sums of its first batch."""

    def summaries(self, inputs: Arrays, targets: Arrays, outputs: Arrays) -> Mapping[str, Summary]:
        assert isinstance(outputs["sum"], np.ndarray)
        assert len(inputs["x"]) in (32, 64)  # a batch of val or lav
        assert targets["y"].shape == outputs["sum"].shape == (len(inputs["x"]),)
        return {"first_inputs": Image(inputs["x"])}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "everything"
    scenario = small(
        folder,
        evaluator=Everything(),
        model=Showing(),
        optimizer=AdamW(weight_decay=0.01),
        trainer={"lav_every_n": 3, "profile": True, "steps_per_execution": 4},
    )
    train(scenario)
    return folder


# Pages.


def test_scalars_of_each_folder_are_the_values_of_the_history(trained: Path) -> None:
    header, *rows = [line.split(",") for line in (trained / "history.csv").read_text().splitlines()]
    for name, column in (("train", "loss"), ("train", "memory_mb"), ("val", "val_loss"), ("val", "val_count")):
        tag = column.removeprefix("val_")
        logged = [(event.step, event.value) for event in events(trained / "tensorboard" / name).Scalars(tag)]
        index = header.index(column)
        assert logged == [(int(row[header.index("step")]), pytest.approx(float(row[index]))) for row in rows]
    assert [event.step for event in events(trained / "tensorboard" / "lav").Scalars("largest_error")] == [12, 36]
    assert events(trained / "tensorboard" / "train").Scalars("memory_mb")[0].value > 50


def test_summaries_stay_out_of_the_history(trained: Path) -> None:
    header = (trained / "history.csv").read_text().splitlines()[0]
    assert "val_largest_error" in header
    assert "ramp" not in header


@pytest.mark.parametrize("name", ["val", "lav"])
def test_images_are_those_of_the_evaluator(name: str, trained: Path) -> None:
    width, height, file = tensor(trained / "tensorboard" / name, "ramp")
    assert (width, height) == (b"4", b"3")
    image = np.asarray(PillowImage.open(io.BytesIO(file)))
    assert image.shape == (3, 4, 3)
    assert image[..., 0].ravel().tolist() == np.rint(np.linspace(0, 255, 12)).tolist()
    width, height, _ = tensor(trained / "tensorboard" / name, "plot")
    assert (width, height) == (b"5", b"5")
    assert events(trained / "tensorboard" / name).SummaryMetadata("ramp").plugin_data.plugin_name == "images"


def test_model_summaries_are_written_after_each_validation(trained: Path) -> None:
    shown = events(trained / "tensorboard" / "val").Tensors("first_inputs")
    assert [event.step for event in shown] == [12, 24, 36]
    assert tensor(trained / "tensorboard" / "val", "first_inputs")[1] == b"32"


def test_precision_and_recall_are_right_at_each_threshold() -> None:
    labels, scores = np.array([1, 1, 0, 0, 1]), np.array([0.9, 0.6, 0.6, 0.2, 1.0])
    counts = PRCurve(labels, scores).counts()
    for index, threshold in ((0, 0.0), (100, 0.5), (140, 0.7), (200, 1.0)):
        passed = scores >= threshold
        expected = [passed & (labels == 1), passed & (labels == 0), ~passed & (labels == 0), ~passed & (labels == 1)]
        assert [count[index] for count in counts] == [np.sum(those) for those in expected]


def test_curves_texts_and_histograms_are_as_their_pages_want_them(trained: Path) -> None:
    folder = trained / "tensorboard" / "val"
    curve = tensor(folder, "is_large")
    assert curve.shape == (6, 201)
    assert curve[4:, 0].tolist() == pytest.approx([curve[0, 0] / 100, 1])  # all of 100 are taken for large
    assert tensor(folder, "note").item() == b"| x | y |\n| --- | --- |\n| 1 | a&#124;b |"
    histogram = tensor(folder, "targets")
    assert histogram.shape == (30, 3)
    assert histogram[:, 2].sum() == 100
    found = events(folder)
    plugins = {tag: found.SummaryMetadata(tag).plugin_data.plugin_name for tag in ("is_large", "note", "targets")}
    assert plugins == {"is_large": "pr_curves", "note": "text", "targets": "histograms"}


def session(run: Path) -> tuple[Any, Any]:
    """Start and end of the run's row on the page HPARAMS."""
    found = events(run / "tensorboard" / "hparams")
    start = found.SummaryMetadata(SESSION_START_INFO_TAG).plugin_data.content
    if SESSION_END_INFO_TAG not in found.Tags()["tensors"]:
        return parse_session_start_info_plugin_data(start), None
    end = found.SummaryMetadata(SESSION_END_INFO_TAG).plugin_data.content
    return parse_session_start_info_plugin_data(start), parse_session_end_info_plugin_data(end)


def test_a_run_is_a_row_with_its_parameters_and_its_best_values(trained: Path) -> None:
    start, end = session(trained)
    assert start.hparams["optimizer"].string_value == "AdamW"
    assert start.hparams["optimizer.weight_decay"].number_value == 0.01
    assert start.hparams["optimizer.amsgrad"].HasField("bool_value")
    assert "trainer.output_dir" not in start.hparams
    assert end.status == STATUS_SUCCESS
    assert end.end_time_secs > start.start_time_secs
    found = events(trained / "tensorboard" / "hparams")
    losses = [event.value for event in events(trained / "tensorboard" / "val").Scalars("loss")]
    assert found.Scalars("best/val_loss")[-1].value == min(losses)
    assert set(found.Tags()["scalars"]) == {"best/loss", "best/val_loss", "best/lav_loss"}


def test_parameters_are_plain_values_and_choices() -> None:
    values = collect_hyperparameters(small(model=Line(dropout=0.5)))
    assert values["model"] == "Line"
    assert values["model.dropout"] == 0.5
    assert values["data.processors"] == values["optimizer.weight_decay"] == "none"
    assert "trainer" not in values  # there is no other


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_one_record_of_its_best_epoch(tmp_path: Path, quick_run: Run) -> None:
    run = tmp_path / "run"
    train(small(run))  # three epochs, each better
    start, _ = session(run)
    # As a kill leaves it between the export of the best epoch and its checkpoint.
    shutil.rmtree(run / "checkpoints" / "epoch_0003")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running"}))
    (hparams,) = (run / "tensorboard" / "hparams").iterdir()
    hparams.write_bytes(hparams.read_bytes()[:-20])
    wait_for_the_next_second()
    done = quick_run("resume-training", run)
    assert done.returncode == 0, done.stderr
    assert len(list((run / "tensorboard" / "hparams").iterdir())) == 1
    resumed_start, end = session(run)
    assert resumed_start.start_time_secs == start.start_time_secs
    assert end.status == STATUS_SUCCESS
    best = json.loads((run / "summary.json").read_text())["best"]
    assert best["epoch"] == 3
    assert [event.step for event in events(run / "tensorboard" / "hparams").Scalars("best/val_loss")] == [36]
    assert events(run / "tensorboard" / "hparams").Scalars("best/val_loss")[0].value == pytest.approx(best["value"])


@pytest.mark.slow
def test_a_failed_run_is_marked_and_a_stopped_one_has_no_end(tmp_path: Path) -> None:
    with pytest.raises(TrainingError):
        train(small(tmp_path / "failed", optimizer=SGD(), learning_rate=Constant(lr=1e30)))
    assert session(tmp_path / "failed")[1].status == STATUS_FAILURE

    class Stopping(Largest):
        def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small(tmp_path / "stopped", evaluator=Stopping()))
    assert session(tmp_path / "stopped")[1] is None


# After a resume.


def wait_for_the_next_second() -> None:
    """TensorBoard reads event files by name: second, then a number in the process, which sorts 10 before 9."""
    time.sleep(1.0 - time.time() % 1.0)


def query_tensorboard(folder: Path, run: str, tag: str, expected: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return steps and values as TensorBoard's default server in Rust reports them; it reads one file after another."""
    server = SubprocessServerDataIngester(
        get_server_binary(), str(folder), reload_interval=0, channel_creds_type=ChannelCredsType.LOCAL
    )
    server.start()
    chosen = {"plugin_name": "scalars", "run_tag_filter": RunTagFilter([run], [tag])}
    values: list[tuple[int, float]] = []
    for _ in range(1200):
        found = server.data_provider.read_scalars(None, experiment_id="", downsample=1000, **chosen)
        values = [(datum.step, datum.value) for datum in found[run][tag]] if run in found else []
        if values == expected:
            break
        time.sleep(0.1)
    return values


def start_loggers(run: Path, epochs_done: int = 0) -> TrainingLoggers:
    """Return the loggers of a run that is resumed after some epochs."""
    history = [LoggedEpoch(epoch, epoch, {"epoch": epoch}) for epoch in range(1, epochs_done + 1)]
    return TrainingLoggers(small(), OutputDir(run), ["val_"], InterruptFlag(), history)


def test_epochs_that_are_done_again_replace_those_of_before(tmp_path: Path) -> None:
    with start_loggers(tmp_path) as before:
        for epoch in (1, 2, 3, 4):
            values = {"epoch": epoch, "loss": 0.5, "val_loss": 0.5}
            before.log(LoggedEpoch(epoch, epoch, values, {"val_note": Text(f"before {epoch}")}))
    wait_for_the_next_second()
    with start_loggers(tmp_path, epochs_done=2) as after:
        after.log(LoggedEpoch(3, 3, {"epoch": 3, "loss": 0.25, "val_loss": 0.25}, {"val_note": Text("after 3")}))
    for name in ("train", "val"):
        expected = [(1, 0.5), (2, 0.5), (3, 0.25)]
        assert query_tensorboard(tmp_path / "tensorboard", name, "loss", expected) == expected
        in_python = PluginEventAccumulator(str(tmp_path / "tensorboard" / name))
        in_python.Reload()
        tensors = in_python.Tensors("loss")
        found = [(event.step, make_ndarray(event.tensor_proto).item()) for event in tensors]
        assert found == [(1, 0.5), (2, 0.5), (3, 0.25)]
    notes = [make_ndarray(event.tensor_proto).item() for event in in_python.Tensors("note")]
    assert notes == [b"before 1", b"before 2", b"after 3"]


def test_tensorboard_drops_old_events_of_repeated_epochs(tmp_path: Path) -> None:
    with start_loggers(tmp_path) as before:
        for epoch in (1, 2):
            before.log(LoggedEpoch(epoch, epoch, {"epoch": epoch, "loss": 0.5}))
    wait_for_the_next_second()
    with start_loggers(tmp_path, epochs_done=1):
        pass
    assert [event.step for event in events(tmp_path / "tensorboard" / "train").Scalars("loss")] == [1]


# Profiles.


def test_a_profile_is_where_its_page_looks_for_it(trained: Path) -> None:
    (file,) = (trained / "tensorboard").glob("plugins/profile/*/*.xplane.pb")
    assert file.stat().st_size > 10_000
    content = file.read_bytes()
    assert b"train" in content
    assert "profile of steps 5 to 12 written to" in (trained / "train.log").read_text()


def test_profiling_skips_the_first_execution(tmp_path: Path) -> None:
    train(small(tmp_path / "run", trainer={"profile": True, "epochs": 1, "steps_per_execution": 12}))
    assert "no profile written: all steps ran in a single execution" in (tmp_path / "run" / "train.log").read_text()


@pytest.mark.slow
def test_jax_writes_a_profile_too(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    words = ("--device.backend", "jax", "--trainer.profile", "true", "--trainer.epochs", 1)
    done = run("train-scenario", "scenarios.minimal", "--trainer.output_dir", tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "run" / "tensorboard").glob("plugins/profile/*/*.xplane.pb"))


def test_a_profile_needs_a_folder() -> None:
    with pytest.raises(UsageError, match="Trainer.profile true: requires Trainer.output_dir"):
        train(small(trainer={"profile": True}))


# Mistakes.


@pytest.mark.parametrize(
    ("summary", "message"),
    [
        (Image(np.zeros(5)), r"'x' is an image of shape \(5,\); expected \(height, width\)"),
        (Image(np.zeros((5, 5, 2))), r"'x' is an image of shape \(5, 5, 2\)"),
        (Image(np.zeros((0, 5))), "without pixels"),
        (Image(np.zeros((5, 5), int)), "'x' is an image of dtype int64; expected floats from 0 to 1, or uint8"),
        (Figure("plot.png"), "'x' is a Figure with a str, which has no method savefig"),
        (PRCurve([1, 0], [0.5]), r"'x' is a PRCurve with labels of shape \(2,\) and scores of shape \(1,\)"),
        (PRCurve([1, 2], [0.5, 0.5]), "with the label 2; labels must be 0 or 1"),
        (PRCurve([1, 0], [0.5, 3.5]), "with the score 3.5; scores must be from 0 to 1"),
        (Text(3), "'x' is a Text with an int; expected a str"),  # type: ignore[arg-type]
        (Histogram(["a"]), "'x' is a Histogram with values of dtype <U1; expected numbers"),
    ],
)
def test_a_summary_that_is_none_names_evaluator_and_key(summary: Summary, message: str) -> None:
    class Wrong(Largest):
        def evaluate(self, samples: Iterable[Sample]) -> Mapping[str, float | Summary]:
            return {"x": summary}

    with pytest.raises(UsageError, match=f"^Wrong.evaluate: .*{message}"):
        run_evaluator(Wrong(), [], reserved_names=())


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (None, "Wrong.summaries returned a NoneType; it must return"),
        ({"sum": np.zeros((2, 2))}, "'sum' is a ndarray; expected a summary of tfaip_like.summaries, such as Image"),
        ({"largest_error": Text("")}, "'largest_error' is already in use"),
        ({"sum": Image(np.zeros(2))}, r"'sum' is an image of shape \(2,\)"),
    ],
)
def test_summaries_of_a_model_are_validated(shown: Any, message: str) -> None:
    class Wrong(Line):
        def summaries(self, inputs: Arrays, targets: Arrays, outputs: Arrays) -> Any:
            return shown

    network = build_networks(Wrong(), Points()).prediction
    batch = Batch({"x": np.zeros((4, 2), "float32")}, {"y": np.zeros(4, "float32")})
    with pytest.raises(UsageError, match=message):
        collect_summaries(Wrong(), batch, make_predict_fn(network)(batch.inputs), reserved_names=["largest_error"])


def test_an_error_in_model_summaries_is_reported_with_its_line() -> None:
    class Wrong(Line):
        def summaries(self, inputs: Arrays, targets: Arrays, outputs: Arrays) -> Any:
            return {"weights": outputs["weights"]}

    with pytest.raises(KeyError) as caught:
        train(small(model=Wrong(), trainer={"epochs": 1}))
    frame = innermost_user_frame(caught.value)
    assert frame is not None
    assert (frame.name, frame.line) == ("summaries", 'return {"weights": outputs["weights"]}')


# Pictures.


def test_pictures_of_any_kind_and_number_make_a_grid() -> None:
    kinds = [np.ones((8, 8)), np.full((6, 8, 1), 0.5), np.zeros((8, 4, 3), np.uint8), np.eye(3, dtype=bool)]
    whole = Image.grid(kinds).pixels()
    assert whole.shape[0] >= 64
    assert {0, 128, 255} <= set(whole.ravel().tolist())
    assert Image.grid([]).validation_error() is None
    with pytest.raises(ValueError, match=r"array 1 is an image of shape \(3,\)"):
        Image.grid([np.zeros((3, 3)), np.zeros(3)])


def test_values_outside_are_cut_off_and_nan_is_black() -> None:
    values = np.array([[-1.0, 0.5, 2.0, np.nan, np.inf]])
    assert Image(values).pixels()[0, :, 0].tolist() == [0, 128, 255, 0, 255]


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (300, 200)])
def test_a_png_file_is_read_by_other_programs(shape: tuple[int, int]) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (*shape, 3), np.uint8)
    assert (np.asarray(PillowImage.open(io.BytesIO(encode_png(picture)))) == picture).all()


def test_a_confusion_matrix_is_an_image() -> None:
    (value,) = to_summary_proto({}, {"classes": ConfusionMatrix([0, 1, 1], [0, 1, 0])}).value
    assert value.metadata.plugin_data.plugin_name == "images"
    width, height, file = make_ndarray(value.tensor)
    picture = PillowImage.open(io.BytesIO(file))
    assert picture.size == (int(width), int(height))
    assert picture.getpixel((3, 3))[2] > picture.getpixel((3, 3))[0]  # right is blue
