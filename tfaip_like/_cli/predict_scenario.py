"""`predict-scenario EXPORT_DIR... [flags]`: predicts new samples."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

from tfaip_like._cli.command import run_command
from tfaip_like._cli.named_exports import NamedExport, named_exports, named_scenario, names_checkpoints
from tfaip_like._cli.params_command import Line, ParamsCommand
from tfaip_like._cli.start import start
from tfaip_like._export.bundled_files import check_own_paths
from tfaip_like._export.layout import export_folder
from tfaip_like._export.pipeline import load_pipeline, pipeline_of
from tfaip_like._export.scenario_loading import rebuilt_scenario
from tfaip_like._user_code.trust import UntrustedCodeError, trusting
from tfaip_like._utils.console import samples_bar
from tfaip_like._utils.errors import UsageError, counted
from tfaip_like._utils.interruption import catch_interrupts
from tfaip_like._utils.memory import resident_mb
from tfaip_like.data import Data, PredictData, Source
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Mode
from tfaip_like.data._writer import Writer
from tfaip_like.data._writers import WRITERS, written
from tfaip_like.inference._experts import exports_of_experts
from tfaip_like.inference._input_files import samples_in
from tfaip_like.inference._loading import load_predictor
from tfaip_like.inference._predictor import Predictor
from tfaip_like.list_files import ListFileData, list_source
from tfaip_like.modeling._voter import Voter
from tfaip_like.params import Params
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

logger = logging.getLogger(__name__)


class PredictSamples(PredictData):
    """The samples, and how they are made into batches."""

    files: list[str] = []
    """Files with samples: JSON lines (.jsonl, or - for standard input) with an object of inputs on each, or
    tables (.npz, .csv, .tsv, .parquet) with a row for each. Patterns in quotes are expanded here."""

    lists: list[str] = []
    """For scenarios with list files: list files, or the files themselves, folders and patterns."""

    def check(self) -> None:
        super().check()
        self.require(not (self.files and self.lists), "files", "contradicts lists; give one of them")


class Prediction(Params):
    """What is predicted, and where to."""

    output: Path | None = None
    """File for the predictions: .jsonl, .npz, or any other with a writer of its own; by default they are
    printed, as JSON lines."""

    writer: Writer | None = None
    """Writes the file; by default chosen by its ending, or by the scenario."""

    voter: Voter | None = None
    """Makes one prediction of those of several exports; by default the scenario's own, or their mean."""

    predict: PredictSamples = PredictSamples()
    """The samples, and how they are made into batches."""

    data: Data | None = None
    """The data of the scenario, with the values it was trained with; needs its code."""

    device: Device = Device()
    """What computes."""


def _defaults(words: Sequence[str]) -> Prediction:
    """Return the defaults for some exports, which need the code of their scenario."""
    return _defaults_of(_first_scenario(words) if words else None)


def _defaults_of(scenario: Scenario | None) -> Prediction:
    return Prediction() if scenario is None else Prediction(data=scenario.data)


def _scenario(words: Sequence[str]) -> Scenario | None:
    """Return the scenario of the first export, if its code is here."""
    try:
        return _first_scenario(words)
    except UntrustedCodeError as error:
        logger.warning("The scenario of %s is not used. %s", words[0], error)
    except UsageError as error:
        logger.debug("the scenario of %s: %s", words[0], error)
    return None


def _first_scenario(words: Sequence[str]) -> Scenario:
    """Return the scenario of the first export; of a folder of experts, that of the first of them."""
    experts = exports_of_experts(Path(words[0]))
    return rebuilt_scenario(next(iter(experts.values()))) if experts else named_scenario(words[0])


COMMAND = ParamsCommand(
    program="predict-scenario",
    purpose="Predicts samples with an export, with several that vote, or with a folder of experts. The folder of a run "
    "stands for its best model, RUN/checkpoints/epoch_0012 for that of a kept epoch.",
    placeholder="EXPORT_DIR...",
    tree=_defaults,
    runs_code=True,
)


def predict_scenario(argv: Sequence[str]) -> None:
    """Predicts what the command line describes."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if not line.words:
        raise UsageError("which export? predict-scenario EXPORT_DIR... [--FLAG VALUE ...], with its folder first")
    with trusting(line.is_trusting):
        _predict_line(line)


def _predict_line(line: Line) -> None:
    device = Device()
    if names_checkpoints(line.words):
        scenario = _first_scenario(line.words)
        settings = cast(Prediction, line.applied(_defaults_of(scenario)))
        device = dataclasses.replace(settings.device, backend=scenario.device.backend)
    with named_exports(line.words, device) as exports:
        _predict_with(exports, line)


def _predict_with(named: Sequence[NamedExport], line: Line) -> None:
    """Predict with exports.

    Args:
        named: exports, or a folder of experts.
        line: with the settings.
    """
    words = [str(export.path) for export in named]
    scenario = _scenario(words)
    settings = cast(Prediction, line.applied(_defaults_of(scenario)))
    experts = exports_of_experts(Path(words[0]))
    first = next(iter(experts.values())) if experts else export_folder(Path(words[0]))
    writer = settings.writer
    if writer is None and scenario is not None and settings.output and settings.output.suffix not in WRITERS:
        writer = scenario.writer()
    voter = settings.voter or (scenario.voter() if scenario is not None else None)
    source = _source(settings, scenario, first)
    start(dataclasses.replace(settings.device, backend="tensorflow"), needs_keras=False)
    predictor = load_predictor(*words, voter=voter)
    if scenario is not None and settings.data is not None and settings.data != scenario.data:
        predictor.pipeline = pipeline_of(settings.data, predictor.pipeline.inputs)
        check_own_paths(first, predictor.pipeline, received=scenario.data)
    _predict(predictor, source, settings, writer)
    if len(predictor.exports) > 1:
        names = {export.path: export.name for export in named}
        for exported, seconds in zip(predictor.exports, predictor.seconds, strict=True):
            name = names.get(exported.path, exported.path)  # experts have folders of their own
            logger.info("  %s: %.1f s, %.1f MB of weights", name, seconds, exported.weight_mb)


def _source(settings: Prediction, scenario: Scenario | None, export: Path) -> Source:
    samples, data = settings.predict, settings.data
    if samples.files:
        pipeline = load_pipeline(export)
        table_format = pipeline.table_format if data is None else data.table_format
        is_processed = bool(pipeline.pipeline(Mode.PREDICT))
        return samples_in(samples.files, pipeline.inputs, "--predict.files", table_format, is_processed)
    if scenario is None or data is None:
        try:
            rebuilt_scenario(export)
        except UsageError as error:
            error.add_note("Without its code samples must come from files: --predict.files FILE.")
            raise
    assert scenario is not None
    assert data is not None
    if isinstance(data, ListFileData):
        if not samples.lists:
            raise UsageError("--predict.lists is required: list files, files, folders or patterns")
        return list_source(data, samples.lists, "--predict.lists")
    if samples.lists:
        raise UsageError(f"--predict.lists: {type(scenario).__name__} has no list files; use --predict.files")
    source = dataclasses.replace(scenario, data=data).source(Mode.PREDICT)
    if source is None:
        raise UsageError(
            f"{type(scenario).__name__} has no samples of its own to predict (source(Mode.PREDICT)); name some with "
            "--predict.files"
        )
    return source


def _predict(predictor: Predictor, source: Source, settings: Prediction, writer: Writer | None) -> None:
    begin, count = time.perf_counter(), 0
    with catch_interrupts() as interrupt:
        batches = predictor.batches_of(source, settings.predict, interrupt.check)
        with closing(batches), written(settings.output, writer, "--output") as write, samples_bar(len(batches)) as bar:

            def note(batch: Batch) -> None:
                interrupt.check()
                bar.update(len(batch))

            for sample in predictor.finished(batches, note):
                write(sample)
                count += 1
        interrupt.nothing_to_stop()
    seconds = time.perf_counter() - begin
    speed = f"{seconds:.1f} s ({count / seconds:.0f}/s)"
    logger.info("%s predicted in %s, %.0f MB of memory", counted(count, "sample"), speed, resident_mb())


def main() -> None:
    """The entry point of the console script."""
    sys.exit(run_command(COMMAND.program, predict_scenario, sys.argv[1:]))


if __name__ == "__main__":
    main()
