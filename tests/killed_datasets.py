"""Training on a dataset of another library in a separate process, which may kill itself.

python tests/killed_datasets.py KIND OUTPUT_DIR FILES [STEP]
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import test_datasets
import test_source_passes
from small import Points, small

from tfaip_like import Mode, train
from tfaip_like.callbacks import Callback, RunContext
from tfaip_like.settings import Resume

STATEFUL = ("Hugging Face", "Hugging Face, shuffled", "Grain, shuffled", "PyTorch, own sampler", "torchdata")
SHUFFLED = ("tf.data, shuffled", "tf.data, shuffled with a seed")
KINDS = {
    **test_datasets.KINDS,
    **{f"{kind}, long": lambda _, k=kind: test_source_passes.KINDS[k]() for kind in (*STATEFUL, *SHUFFLED)},
}


class Given(Points):
    """Data of a kind."""

    kind: str = ""
    """Kind of dataset."""

    files: Path = Path()
    """Directory for files."""

    def source(self, mode: Mode) -> Any:
        return KINDS[self.kind](self.files) if mode is Mode.TRAIN else None


class KillAt(Callback):
    """Kills its process after a step."""

    every: str = "1steps"
    """Interval."""

    step: int = 0
    """Step of the run; 0 for none."""

    def on_step_end(self, run: RunContext, metrics: Mapping[str, float]) -> None:
        if self.step and run.step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def main(kind: str, folder: str, files: str, step: str = "0") -> None:
    """Train, or resume a run that was killed."""
    scenario = small(
        Path(folder),
        data=Given(kind=kind, files=Path(files)),
        evaluator=None,
        train={"num_processes": 0, "batch_size": 8},
        trainer={"epochs": 3, "samples_per_epoch": 64, "checkpoint_every": "3steps"},
    )
    resume = Resume() if Path(folder).exists() else None
    train(scenario, resume, callbacks=[KillAt(step=int(step))])


if __name__ == "__main__":
    main(*sys.argv[1:])
