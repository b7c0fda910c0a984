"""Generator of example data: files with one curve each, and list files. Replace them with your own.

Each line of a list file is a path relative to that list file. The label is the name of the directory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

LABELS = ("calm", "wild")


def draw_samples(folder: Path) -> None:
    """Write 120 curves of 20 to 40 values, `train.txt` with 90 of them and `val.txt` with the others."""
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
