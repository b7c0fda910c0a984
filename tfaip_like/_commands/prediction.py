"""Prediction with exports: what `predict-scenario` does, and `tfaip_like.predict`."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfaip_like._commands.named_exports import (
    ResolvedExport,
    contains_checkpoint,
    default_device,
    load_named_scenario,
    open_exports,
)
from tfaip_like._commands.runtime import initialize_runtime
from tfaip_like._export.bundled_files import check_no_outside_paths
from tfaip_like._export.layout import resolve_export_dir
from tfaip_like._export.pipeline import load_pipeline, make_pipeline
from tfaip_like._export.scenario_loading import load_scenario
from tfaip_like._runs.fetching import fetch_exports
from tfaip_like._user_code.trust import UntrustedCodeError, allow_untrusted_code
from tfaip_like._utils.console import default_console_logging
from tfaip_like._utils.errors import UsageError, pluralize
from tfaip_like._utils.interruption import graceful_shutdown_signals
from tfaip_like._utils.processes import resident_memory_mb
from tfaip_like._utils.progress_bar import sample_progress_bar
from tfaip_like.data import Data, PredictLoaderSettings, Source
from tfaip_like.data._loader.batching import Batch
from tfaip_like.data._sample import Arrays, Mode, Sample
from tfaip_like.data._writers import WRITERS, Writer, WriteSample, open_writer
from tfaip_like.inference._experts import read_expert_exports
from tfaip_like.inference._input_files import read_samples
from tfaip_like.inference._loading import load_predictor
from tfaip_like.inference._predictor import Predictor, SampleLike
from tfaip_like.modeling._voting import Voter
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionSettings:
    """What is predicted and where it is written; see `predict`."""

    samples: Iterable[SampleLike] | Arrays | None = None
    files: Sequence[str] = ()
    lists: Sequence[str] = ()
    output: Path | None = None
    writer: Writer | None = None
    voter: Voter | None = None
    data: Data | None = None
    """Data of the scenario; None for the values it was trained with."""
    loader: PredictLoaderSettings = dataclasses.field(default_factory=PredictLoaderSettings)
    device: Device = dataclasses.field(default_factory=Device)


def predict(
    *exports: Path | str,
    samples: Iterable[SampleLike] | Arrays | None = None,
    files: Sequence[Path | str] = (),
    lists: Sequence[Path | str] = (),
    output: Path | str | None = None,
    writer: Writer | None = None,
    voter: Voter | None = None,
    data: Data | None = None,
    settings: PredictLoaderSettings | None = None,
    device: Device | None = None,
    trust_code: bool = False,
) -> list[Sample]:
    """Predict samples with an export, an ensemble of exports, or a directory of experts, as `predict-scenario` does.

    To predict more than once, or a stream, use `load_predictor`.

    Args:
        exports: Export directories; run directories, whose best model is used; or checkpoints.
        samples: Samples or their inputs by name, or named arrays of shape (num_samples, ...).
        files: Files with samples instead: JSON lines, or tables with one sample per row.
        lists: Samples of scenarios with list files instead: list files, sample files, directories or glob patterns.
            Default, if none of the three is given: the samples of `Scenario.source(Mode.PREDICT)`.
        output: File that the predictions are also written to.
        writer: Writer of the output file. By default chosen by its extension, or by the scenario.
        voter: Rule that combines the predictions of several exports. Default: the voter of the scenario, else the mean.
        data: Data of the scenario; requires its code. Default: the values it was trained with.
        settings: Batch size and number of workers.
        device: Device settings.
        trust_code: Run code and graphs in these directories even if another user wrote them.

    Returns:
        The predicted samples in their order, without those that a processor dropped.

    Raises:
        UsageError: If a directory is not an export, or a sample does not match the inputs of the network.
        Interrupted: After Ctrl-C or SIGTERM.

    Example:
        >>> predict("runs/digits", samples={"image": images})[0].outputs["class"]  # doctest: +SKIP
        7
    """
    chosen = PredictionSettings(
        samples=samples,
        files=list(map(str, files)),
        lists=list(map(str, lists)),
        output=Path(output) if output is not None else None,
        writer=writer,
        voter=voter,
        data=data,
        loader=settings or PredictLoaderSettings(),
        device=device or Device(),
    )
    if (samples is not None) + bool(files) + bool(lists) > 1:
        raise UsageError("samples, files and lists: pass one of them")
    if not exports:
        raise UsageError("missing export: pass at least one export directory")
    paths = [fetch_exports(export) for export in exports]
    predicted: list[Sample] = []
    with default_console_logging(), allow_untrusted_code(trust_code):
        if contains_checkpoint(paths):
            chosen = dataclasses.replace(chosen, device=device or default_device(load_first_scenario(paths)))
        with open_exports(paths, chosen.device) as named:
            scenario = try_load_scenario([export.path for export in named])
            if output is None:
                predict_exports(named, scenario, chosen, predicted.append)
            else:
                with open_writer(chosen.output, choose_writer(chosen, scenario), "output") as write:

                    def collect(sample: Sample) -> None:
                        predicted.append(sample)
                        write(sample)

                    predict_exports(named, scenario, chosen, collect)
    return predicted


def load_first_scenario(paths: Sequence[Path]) -> Scenario:
    """Return the scenario of the first export, or of the first expert in a directory of experts."""
    experts = read_expert_exports(paths[0])
    return load_scenario(next(iter(experts.values()))) if experts else load_named_scenario(paths[0])


def try_load_scenario(paths: Sequence[Path]) -> Scenario | None:
    """Return the scenario of the first export; None if its code is not available."""
    try:
        return load_first_scenario(paths)
    except UntrustedCodeError as error:
        logger.warning("%s: its scenario is not used: %s", paths[0], error)
    except UsageError as error:
        logger.debug("%s: its scenario is not used: %s", paths[0], error)
    return None


def choose_writer(settings: PredictionSettings, scenario: Scenario | None) -> Writer | None:
    """Return the writer of the settings, or that of the scenario for a file that no other writer writes."""
    output = settings.output
    if settings.writer is None and scenario is not None and output is not None and output.suffix not in WRITERS:
        return scenario.writer()
    return settings.writer


def predict_exports(
    named: Sequence[ResolvedExport], scenario: Scenario | None, settings: PredictionSettings, write: WriteSample
) -> None:
    """Predict with exports.

    Args:
        named: Exports, or a directory of experts.
        scenario: Scenario of the first export; None if its code is not available.
        settings: What is predicted.
        write: Called with each predicted sample.
    """
    paths = [export.path for export in named]
    experts = read_expert_exports(paths[0])
    first = next(iter(experts.values())) if experts else resolve_export_dir(paths[0])
    voter = settings.voter or (scenario.voter() if scenario is not None else None)
    source = settings.samples if settings.samples is not None else _make_source(settings, scenario, first)
    initialize_runtime(dataclasses.replace(settings.device, backend="tensorflow"), needs_keras=False)
    predictor = load_predictor(*paths, voter=voter)
    if scenario is not None and settings.data is not None and settings.data != scenario.data:
        predictor.pipeline = make_pipeline(settings.data, predictor.pipeline.inputs)
        check_no_outside_paths(first, predictor.pipeline, received=scenario.data)
    _predict(predictor, source, settings.loader, write)
    if len(predictor.exports) > 1:
        names = {export.path: export.name for export in named}
        for exported, seconds in zip(predictor.exports, predictor.seconds, strict=True):
            name = names.get(exported.path, exported.path)  # each expert has a separate directory
            logger.info("  %s: %.1f s, %.1f MB of weights", name, seconds, exported.weight_mb)


def _make_source(settings: PredictionSettings, scenario: Scenario | None, export: Path) -> Source:
    from tfaip_like.list_files import ListFileData, make_list_source  # its settings would be choices everywhere

    data = settings.data or (scenario.data if scenario is not None else None)
    if settings.files:
        pipeline = load_pipeline(export)
        table_format = pipeline.table_format if settings.data is None else settings.data.table_format
        is_processed = bool(pipeline.pipeline(Mode.PREDICT))
        return read_samples(settings.files, pipeline.inputs, "--predict.files", table_format, is_processed)
    if scenario is None or data is None:
        try:
            load_scenario(export)
        except UsageError as error:
            error.add_note("Without this code, pass the samples as files: --predict.files FILE.")
            raise
    assert scenario is not None
    assert data is not None
    if isinstance(data, ListFileData):
        if not settings.lists:
            raise UsageError("--predict.lists is required: list files, sample files, directories or glob patterns")
        return make_list_source(data, settings.lists, "--predict.lists")
    if settings.lists:
        raise UsageError(f"--predict.lists: {type(scenario).__name__} has no list files; use --predict.files")
    source = dataclasses.replace(scenario, data=data).select_source(Mode.PREDICT)
    if source is None:
        raise UsageError(
            f"{type(scenario).__name__} has no samples to predict: source(Mode.PREDICT) returned None; pass "
            "--predict.files"
        )
    return source


def _predict(predictor: Predictor, source: Any, settings: PredictLoaderSettings, write: WriteSample) -> None:
    begin, count = time.perf_counter(), 0
    with graceful_shutdown_signals() as interrupt:
        batches = predictor.make_data_loader(source, settings, interrupt.check)
        with closing(batches), sample_progress_bar(len(batches)) as bar:

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
