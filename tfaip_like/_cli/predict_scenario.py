"""`predict-scenario EXPORT_DIR... [flags]`: predict new samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from tfaip_like._cli.command import run_program
from tfaip_like._cli.command_line import ParamsCommand, ParsedCommandLine
from tfaip_like._commands.named_exports import ResolvedExport, contains_checkpoint, open_exports
from tfaip_like._commands.prediction import (
    PredictionSettings,
    choose_writer,
    load_first_scenario,
    predict_exports,
    try_load_scenario,
)
from tfaip_like._runs.fetching import fetch_exports
from tfaip_like._user_code.trust import allow_untrusted_code
from tfaip_like._utils.errors import UsageError
from tfaip_like.data import Data, PredictLoaderSettings
from tfaip_like.data._writers import Writer, open_writer
from tfaip_like.modeling._voting import Voter
from tfaip_like.params import Params
from tfaip_like.scenario import Scenario
from tfaip_like.settings import Device


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
    return _options_for(load_first_scenario([fetch_exports(word) for word in words]) if words else None)


def _options_for(scenario: Scenario | None) -> PredictOptions:
    return PredictOptions() if scenario is None else PredictOptions(data=scenario.data)


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
    device, paths = Device(), [fetch_exports(word) for word in line.words]
    if contains_checkpoint(paths):
        scenario = load_first_scenario(paths)
        options = cast(PredictOptions, line.apply_to(_options_for(scenario)))
        device = dataclasses.replace(options.device, backend=scenario.device.backend)
    with open_exports(paths, device) as named:
        _predict_with_exports(named, line)


def _predict_with_exports(named: Sequence[ResolvedExport], line: ParsedCommandLine) -> None:
    """Predict with exports, or a directory of experts."""
    scenario = try_load_scenario([export.path for export in named])
    options = cast(PredictOptions, line.apply_to(_options_for(scenario)))
    settings = PredictionSettings(
        files=options.predict.files,
        lists=options.predict.lists,
        output=options.output,
        writer=options.writer,
        voter=options.voter,
        data=options.data,
        loader=options.predict,
        device=options.device,
    )
    with open_writer(settings.output, choose_writer(settings, scenario), "--output") as write:
        predict_exports(named, scenario, settings, write)


def main() -> None:
    """Run the console script."""
    run_program(COMMAND.program, predict_scenario)


if __name__ == "__main__":
    main()
