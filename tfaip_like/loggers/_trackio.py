"""Trackio logger."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfaip_like.loggers._logger import LoggedRun, Logger, Metrics, ParamValue, Status
from tfaip_like.summaries import ConfusionMatrix, Figure, Histogram, Image, PRCurve, Summary, Text


class Trackio(Logger):
    """Trackio run, in a local database or a Hugging Face Space: parameters, metrics by step, images and curves.

    Example:
        >>> Trackio(project="digits")
        Trackio(project='digits')
    """

    required_packages = ("trackio",)
    extra = "tfaip_like[trackio]"

    project: str | None = None
    """Project; by default TRACKIO_PROJECT, else the class name of the scenario."""
    space_id: str | None = None
    """Hugging Face Space; by default TRACKIO_SPACE_ID, else a database in TRACKIO_DIR of this machine."""
    server_url: str | None = None
    """Address of a Trackio server; by default TRACKIO_SERVER_URL."""
    run_name: str | None = None
    """Name of the run; by default that of the run directory."""
    group: str | None = None
    """Group of runs; by default the batch of the run."""
    log_model: bool = True
    """Store best/ at the end of a complete training."""

    def start(self, run: LoggedRun) -> None:
        import trackio

        if not run.is_resumed:
            parent = run.parent["run"] if run.parent is not None else None
            self.run: str = _next_name(parent) if parent is not None else self.run_name or run.name
            self._config: dict[str, Any] = {**run.provenance, **({"parent_run": parent} if parent else {})}
        self._run = trackio.init(
            project=self.project or os.environ.get("TRACKIO_PROJECT") or run.scenario,
            name=self.run,
            group=self.group or run.batch,
            space_id=self.space_id,
            server_url=self.server_url,
            config=None if run.is_resumed else self._config,
            resume="allow" if run.is_resumed else "never",
            embed=False,
        )

    def last_step(self) -> int | None:
        # Trackio writes in a thread: what was logged shortly before a kill is missing.
        step: int | None = getattr(self._run, "_next_step", None)
        return step - 1 if step is not None else None

    def log_params(self, params: Mapping[str, ParamValue]) -> None:
        self._run.config.update(dict(params))

    def log_metrics(self, metrics: Metrics, step: int, epoch: float) -> None:
        self._run.log(dict(metrics), step=step)

    def log_best(self, metrics: Metrics, step: int, epoch: float) -> None:
        self._run.log({f"best/{name}": value for name, value in {**metrics, "epoch": epoch}.items()}, step=step)

    def log_summary(self, name: str, summary: Summary, step: int, epoch: float) -> None:
        self._run.log({name: _to_media(name, summary)}, step=step)

    def log_artifact(self, path: Path) -> None:
        import trackio

        if self.log_model:
            artifact = trackio.Artifact(f"{path.name}-{re.sub(r'[^A-Za-z0-9_.-]', '-', self.run)}", type="model")
            artifact.add_dir(str(path))
            self._run.log_artifact(artifact)

    def finish(self, status: Status) -> None:
        self._run.finish()


def _next_name(name: str) -> str:
    """Return the name of a run that branches off another one: Trackio finds runs by name."""
    match = re.fullmatch(r"(.*) \((\d+)\)", name)
    return f"{match[1]} ({int(match[2]) + 1})" if match else f"{name} (2)"


def _to_media(name: str, summary: Summary) -> Any:
    import trackio
    from PIL import Image as PillowImage

    match summary:
        case Image() | Figure() | ConfusionMatrix():
            return trackio.Image(PillowImage.open(io.BytesIO(summary.png())))
        case Text():
            return trackio.Markdown(summary.markdown)
        case Histogram():
            return trackio.Histogram(np_histogram=summary.counts())
        case PRCurve():
            rows = np.stack(summary.precision_recall(), axis=1).tolist()
            return trackio.Table(columns=["precision", "recall"], data=rows)
    raise TypeError(f"{name}: Trackio does not support {type(summary).__name__}")
