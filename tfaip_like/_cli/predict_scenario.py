"""`predict-scenario EXPORT_DIR... [flags]`: predict new samples."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand, ParsedCommandLine
from tfaip_like._cli.export_arguments import ResolvedExport, contains_checkpoint, load_named_scenario, open_exports
from tfaip_like._cli.runtime import initialize_runtime
from tfaip_like._export.bundled_files import check_no_outside_paths
from tfaip_like._export.layout import resolve_export_dir
from tfaip_like._export.pipeline import load_pipeline, make_pipeline
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._user_code.trust import UntrustedCodeError, allow_untrusted_code
from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.interruption import graceful_shutdown_signals
from tfaip_like._utils.processes import resident_memory_mb
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like.data import Data, PredictLoaderSettings, Source
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Mode
from tfaip_like.data._writers import WRITERS, Writer, open_writer
from tfaip_like.inference._experts import read_expert_exports
from tfaip_like.inference._input_files import read_samples
from tfaip_like.inference._loading import load_predictor
from tfaip_like.inference._predictor import Predictor
from tfaip_like.list_files import ListFileData, make_list_source
from tfaip_like.modeling._voting import Voter
from tfaip_like.params import Params
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

logger = logging.getLogger(__name__)


class PredictSamples(PredictLoaderSettings):
    """Samples to predict, and their data loader."""

    files: list[str] = []
    """Files with samples: JSON lines (.jsonl, or - for standard input) with one object of inputs per line, or tables
    (.npz, .csv, .tsv, .parquet) with one sample per row. Quoted glob patterns are expanded."""

    lists: list[str] = []
    """Samples of scenarios with list files: list files, sample files, directories or glob patterns."""

    def check(self) -> None:
        super().check()
        self.require(not (self.files and self.lists), "files", "cannot be combined with lists")


class PredictOptions(Params):
    """Options of prediction."""

    output: Path | None = None
    """Output file: .jsonl, .npz, or any other extension with a custom writer. By default predictions are printed as
    JSON lines."""

    writer: Writer | None = None
    """Writer of the output file. By default chosen by its extension, or by the scenario."""

    voter: Voter | None = None
    """Voter that combines the predictions of several exports. Default: the voter of the scenario, otherwise the
    mean."""

    predict: PredictSamples = PredictSamples()
    """Samples to predict, and their data loader."""

    data: Data | None = None
    """Data of the scenario; requires its code. Default: the values it was trained with."""

    device: Device = Device()
    """Device settings."""


def _default_options(words: Sequence[str]) -> PredictOptions:
    """Return the defaults for some exports, whose scenario is imported."""
    return _options_for(_load_first_scenario(words) if words else None)


def _options_for(scenario: Scenario | None) -> PredictOptions:
    return PredictOptions() if scenario is None else PredictOptions(data=scenario.data)


def _try_load_scenario(words: Sequence[str]) -> Scenario | None:
    """Return the scenario of the first export; None if its code is not available."""
    try:
        return _load_first_scenario(words)
    except UntrustedCodeError as error:
        logger.warning("%s: its scenario is not used: %s", words[0], error)
    except UsageError as error:
        logger.debug("%s: its scenario is not used: %s", words[0], error)
    return None


def _load_first_scenario(words: Sequence[str]) -> Scenario:
    """Return the scenario of the first export, or of the first expert in a directory of experts."""
    experts = read_expert_exports(Path(words[0]))
    return load_scenario(next(iter(experts.values()))) if experts else load_named_scenario(words[0])


COMMAND = ParamsCommand(
    program="predict-scenario",
    purpose="Predict samples with an export, with an ensemble of several exports that vote, or with a directory of "
    "experts. A run directory stands for its best model, RUN/checkpoints/epoch_0012 for the model of that epoch.",
    placeholder="EXPORT_DIR...",
    tree=_default_options,
    runs_code=True,
)


def predict_scenario(argv: Sequence[str]) -> None:
    """Predict the samples that the command line names."""
    line = COMMAND.read(argv)
    if line is None:
        return
    if not line.words:
        raise UsageError("missing argument EXPORT_DIR. usage: predict-scenario EXPORT_DIR... [--FLAG VALUE ...]")
    with allow_untrusted_code(line.is_trusting):
        _predict_exports(line)


def _predict_exports(line: ParsedCommandLine) -> None:
    device = Device()
    if contains_checkpoint(line.words):
        scenario = _load_first_scenario(line.words)
        settings = cast(PredictOptions, line.apply_to(_options_for(scenario)))
        device = dataclasses.replace(settings.device, backend=scenario.device.backend)
    with open_exports(line.words, device) as exports:
        _predict_with_exports(exports, line)


def _predict_with_exports(named: Sequence[ResolvedExport], line: ParsedCommandLine) -> None:
    """Predict with exports.

    Args:
        named: exports, or a directory of experts.
        line: parsed command line with the settings.
    """
    words = [str(export.path) for export in named]
    scenario = _try_load_scenario(words)
    settings = cast(PredictOptions, line.apply_to(_options_for(scenario)))
    experts = read_expert_exports(Path(words[0]))
    first = next(iter(experts.values())) if experts else resolve_export_dir(Path(words[0]))
    writer = settings.writer
    if writer is None and scenario is not None and settings.output and settings.output.suffix not in WRITERS:
        writer = scenario.writer()
    voter = settings.voter or (scenario.voter() if scenario is not None else None)
    source = _make_source(settings, scenario, first)
    initialize_runtime(dataclasses.replace(settings.device, backend="tensorflow"), needs_keras=False)
    predictor = load_predictor(*words, voter=voter)
    if scenario is not None and settings.data is not None and settings.data != scenario.data:
        predictor.pipeline = make_pipeline(settings.data, predictor.pipeline.inputs)
        check_no_outside_paths(first, predictor.pipeline, received=scenario.data)
    _write_predictions(predictor, source, settings, writer)
    if len(predictor.exports) > 1:
        names = {export.path: export.name for export in named}
        for exported, seconds in zip(predictor.exports, predictor.seconds, strict=True):
            name = names.get(exported.path, exported.path)  # each expert has a separate directory
            logger.info("  %s: %.1f s, %.1f MB of weights", name, seconds, exported.weight_mb)


def _make_source(settings: PredictOptions, scenario: Scenario | None, export: Path) -> Source:
    samples, data = settings.predict, settings.data
    if samples.files:
        pipeline = load_pipeline(export)
        table_format = pipeline.table_format if data is None else data.table_format
        is_processed = bool(pipeline.pipeline(Mode.PREDICT))
        return read_samples(samples.files, pipeline.inputs, "--predict.files", table_format, is_processed)
    if scenario is None or data is None:
        try:
            load_scenario(export)
        except UsageError as error:
            error.add_note("Without this code, pass the samples as files: --predict.files FILE.")
            raise
    assert scenario is not None
    assert data is not None
    if isinstance(data, ListFileData):
        if not samples.lists:
            raise UsageError("--predict.lists is required: list files, sample files, directories or glob patterns")
        return make_list_source(data, samples.lists, "--predict.lists")
    if samples.lists:
        raise UsageError(f"--predict.lists: {type(scenario).__name__} has no list files; use --predict.files")
    source = dataclasses.replace(scenario, data=data).source(Mode.PREDICT)
    if source is None:
        raise UsageError(
            f"{type(scenario).__name__} has no samples to predict: source(Mode.PREDICT) returned None; pass "
            "--predict.files"
        )
    return source


def _write_predictions(predictor: Predictor, source: Source, settings: PredictOptions, writer: Writer | None) -> None:
    begin, count = time.perf_counter(), 0
    with graceful_shutdown_signals() as interrupt:
        batches = predictor.make_data_loader(source, settings.predict, interrupt.check)
        with (
            closing(batches),
            open_writer(settings.output, writer, "--output") as write,
            sample_progress_bar(len(batches)) as bar,
        ):

            def on_batch(batch: Batch) -> None:
                interrupt.check()
                bar.update(len(batch))

            for sample in predictor.iter_predictions(batches, on_batch):
                write(sample)
                count += 1
        interrupt.disarm()
    seconds = time.perf_counter() - begin
    speed = f"{seconds:.1f} s ({count / seconds:.0f}/s)"
    logger.info("%s predicted in %s, %.0f MB of memory", pluralize(count, "sample"), speed, resident_memory_mb())


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, predict_scenario)


if __name__ == "__main__":
    main()
