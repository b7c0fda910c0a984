"""Run directories without a training, for tests that read them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tfaip_like._runs.run_files import RUN_INFO_FORMAT, RUN_SUMMARY_FORMAT
from tfaip_like.params._files import PARAMS_FORMAT

PARAMETERS = {
    "class": "scenarios.tutorial:Tutorial",
    "model": {
        "class": "scenarios.tutorial:Classifier",
        "graph": {"class": "scenarios.tutorial:MLP", "units": [64]},
        "dropout": 0.2,
    },
    "trainer": {"epochs": 5, "output_dir": "somewhere", "random_seed": 1, "description": ""},
    "learning_rate": {"class": "tfaip_like.schedules:Constant", "lr": 0.001},
}


def rows(epochs: int, rate: float = 0.3, lav_every: int = 2) -> list[dict[str, float]]:
    """Return a history that falls as those of trainings do."""
    history = []
    for epoch in range(1, epochs + 1):
        loss = math.exp(-rate * epoch / max(1, epochs / 10)) + 0.05 + 0.01 * math.sin(7 * epoch)
        row = {"epoch": epoch, "loss": loss, "accuracy": 1 - loss / 2, "cross_entropy": loss}
        row |= {"val_loss": 1.1 * loss, "val_accuracy": 1 - 0.55 * loss, "val_cross_entropy": 1.1 * loss}
        if epoch % lav_every == 0:
            row |= {"lav_loss": 1.12 * loss, "lav_accuracy": 1 - 0.56 * loss}
        measured = {"lr": 0.001, "seconds": 2.5, "samples_per_second": 900.0, "input_bound": 0.1, "memory_mb": 800.0}
        history.append(row | measured)
    return history


def write_run(
    folder: Path,
    history: Sequence[Mapping[str, float]] = (),
    parameters: Mapping[str, Any] | None = None,
    summary: bool = True,
    **record: Any,
) -> Path:
    """Return a run as a training leaves it.

    Args:
        folder: run directory to create.
        history: rows of `history.csv`.
        parameters: values that replace those of `PARAMETERS`, by flag.
        summary: whether the run has finished.
        record: values that replace those of `run.json`.
    """
    folder.mkdir(parents=True)
    tree = json.loads(json.dumps(PARAMETERS))
    for flag, value in (parameters or {}).items():
        *groups, name = flag.split(".")
        group = tree
        for part in groups:
            group = group.setdefault(part, {})
        group[name] = value
    PARAMS_FORMAT.write(folder / "trainer_params.json", tree)
    changed = {f"--{flag}": str(value) for flag, value in (parameters or {}).items()}
    values = {
        "status": "done",
        "description": "",
        "scenario": "scenarios.tutorial:Tutorial",
        "command": ["train-scenario", "scenarios.tutorial"],
        "data": {"train": 1437, "val": 360, "lav": 360},
        "weights": 50826,
        "best_by": {"monitor": "val_accuracy", "mode": "max"},
        "parameters": changed,
        "versions": {"python": "3.11.7"},
        "processors": 2,
        "host": "here",
        "started": "2026-01-01T10:00:00+00:00",
        **record,
    }
    RUN_INFO_FORMAT.write(folder / "run.json", values)  # type: ignore[arg-type]
    if history:
        with (folder / "history.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(dict.fromkeys(name for row in history for name in row)))
            writer.writeheader()
            writer.writerows(history)
        if summary:
            outcome = {"best": {"monitor": "val_accuracy", "mode": "max"}, "stopped_early": None, "last": history[-1]}
            RUN_SUMMARY_FORMAT.write(folder / "summary.json", outcome)  # type: ignore[arg-type]
    return folder
