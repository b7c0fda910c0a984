"""Draws samples to begin with: files of a curve each, and the lists that name them. Replace them by your own.

A list names a file on each line, relative to the list. Here the label stands in the folder's name.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

LABELS = ("calm", "wild")


def draw_samples(folder: Path) -> None:
    """Writes 120 curves of 20 to 40 numbers, `train.txt` with 90 of them and `val.txt` with the others."""
    random = np.random.default_rng(1)
    names = []
    for number in range(120):
        label = number % 2
        steps = random.normal(0, (0.2, 0.5)[label], random.integers(20, 41))
        name = Path(LABELS[label], f"{number:03}.npy")
        (folder / name.parent).mkdir(parents=True, exist_ok=True)
        np.save(folder / name, np.cumsum(steps).astype("float32"))
        names.append(str(name))
    (folder / "train.txt").write_text("\n".join(names[:90]) + "\n")
    (folder / "val.txt").write_text("\n".join(names[90:]) + "\n")


if __name__ == "__main__":
    draw_samples(Path(__file__).parent / "samples")
