"""Generator of synthetic jets: python -m scenarios.jets.draw FOLDER --format csv.

Writes FOLDER/train_00.csv, ..., FOLDER/val_00.csv, ... The four classes, of which the last one is rare, differ in the
lifetime of the initial particle: tracks miss the collision, and may form a secondary vertex. Without a secondary
vertex, a lepton or enough tracks, the respective columns are `MISSING`. The same seed generates the same jets.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

logger = logging.getLogger(__name__)

Columns = Mapping[str, npt.NDArray[Any]]

CLASSES = ["light", "charm", "bottom", "tau"]
CLASS_PROBABILITIES = [0.6, 0.2, 0.15, 0.05]
MISSING = -999.0
"""Value of features that a jet does not have."""

TRACKS = np.array([4.0, 5.0, 6.5, 1.5])
"""Mean of each class; likewise below."""
LIFETIME = np.array([0.05, 0.9, 1.6, 0.5])
VERTEX = np.array([0.12, 0.5, 0.7, 0.4])
VERTEX_MASS = np.array([1.5, 1.5, 2.6, 1.1])
MASS_SHAPE = np.array([2, 60, 9, 60])
LEPTON = np.array([0.03, 0.12, 0.22, 0.3])
LEPTON_PT = np.array([0.5, 0.7, 1.3, 0.9])
WIDTH = np.array([1.0, 1.05, 1.15, 0.6])


def draw_jets(count: int, random: np.random.Generator) -> Columns:
    """Return `count` jets: column name -> values of the features, and `flavour`, the class index."""
    flavour = random.choice(len(CLASSES), count, p=CLASS_PROBABILITIES)
    pt = 20 + random.exponential(40, count)
    tracks = 1 + random.poisson(TRACKS[flavour] * (pt / 60) ** 0.3)
    resolution = 1 + 30 / pt
    lifetime = LIFETIME[flavour] * random.exponential(1, count)
    missed = np.abs(random.normal(0, 1, (3, count)) + 5 * lifetime / resolution * random.random((3, count)))
    missed = np.sort(np.where(random.random((3, count)) < 0.05, 3 * missed, missed), axis=0)[::-1]
    missed *= random.choice([-1, 1], (3, count))  # the sign carries no information
    has_vertex = random.random(count) < VERTEX[flavour] * (1 - np.exp(-3 * (lifetime + 0.1)))
    has_lepton = random.random(count) < LEPTON[flavour]
    columns = {
        "pt": pt,
        "eta": random.uniform(-2.5, 2.5, count),
        "mass": pt * 0.12 * random.gamma(8, 1 / 8, count) * WIDTH[flavour],
        "width": (60 / pt) ** 0.5 * 0.1 * random.gamma(6, 1 / 6, count) * WIDTH[flavour],
        "tracks": tracks,
        "track_energy": random.beta(6, 4, count),
        **{f"track_{number + 1}_d0": np.where(tracks > number, missed[number], MISSING) for number in range(3)},
        "vertex_mass": np.where(
            has_vertex, VERTEX_MASS[flavour] * random.gamma(MASS_SHAPE[flavour]) / MASS_SHAPE[flavour], MISSING
        ),
        "vertex_tracks": np.where(has_vertex, 2 + random.poisson(0.6 * TRACKS[flavour] / 2), MISSING),
        "vertex_distance": np.where(has_vertex, (lifetime + 0.1) * pt / 50, MISSING),
        "vertex_energy": np.where(has_vertex, random.beta(2 + 2 * LIFETIME[flavour], 3), MISSING),
        "lepton_pt": np.where(has_lepton, LEPTON_PT[flavour] * random.gamma(3, 1 / 3, count), MISSING),
        "lepton_ip": np.where(has_lepton, random.normal(0, 1, count) + 3 * lifetime / resolution, MISSING),
    }
    return {name: values.astype(np.float32) for name, values in columns.items()} | {"flavour": flavour.astype(np.int32)}


FEATURES = list(draw_jets(1, np.random.default_rng(0)))[:-1]


def draw_files(
    folder: Path, files: int = 20, val_files: int = 4, jets: int = 2000, seed: int = 1, kind: str = "npz"
) -> tuple[list[Path], list[Path]]:
    """Generate missing files and return the training and validation files; safe to call from parallel runs.

    Args:
        folder: directory of the files, made if needed.
        files: number of training files.
        val_files: number of validation files.
        jets: number of jets per file.
        seed: seed of all files, 0 or more.
        kind: file format, one of `WRITERS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    named: dict[str, list[Path]] = {"train": [], "val": []}
    for number, (part, count) in enumerate({"train": files, "val": val_files}.items()):
        for index in range(count):
            file = folder / f"{part}_{index:02}.{kind}"
            if not file.exists():
                _write(file, draw_jets(jets, np.random.default_rng([seed, number, index])))
            named[part].append(file)
    return named["train"], named["val"]


def _write(file: Path, columns: Columns) -> None:
    """Write a table atomically."""
    logger.info("Generating %s.", file)
    with tempfile.TemporaryDirectory(dir=file.parent) as folder:
        staging = Path(folder) / file.name
        WRITERS[file.suffix[1:]](staging, columns)
        staging.replace(file)


def _write_npz(file: Path, columns: Columns) -> None:
    np.savez(file, **dict(columns))  # type: ignore[arg-type]  # the stub of savez matches them with allow_pickle


def _write_csv(file: Path, columns: Columns) -> None:
    rows = np.column_stack(list(columns.values()))
    np.savetxt(file, rows, delimiter=",", header=",".join(columns), comments="", fmt="%.7g")


def _write_parquet(file: Path, columns: Columns) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), file)


WRITERS: Mapping[str, Callable[[Path, Columns], None]] = {
    "npz": _write_npz,
    "csv": _write_csv,
    "parquet": _write_parquet,
}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Generate synthetic jets of four classes.")
    parser.add_argument("folder", type=Path, help="output directory")
    parser.add_argument("--files", type=int, default=20, help="number of training files (default: 20)")
    parser.add_argument("--val_files", type=int, default=4, help="number of validation files (default: 4)")
    parser.add_argument("--jets", type=int, default=2000, help="jets per file (default: 2000)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: 1)")
    parser.add_argument("--format", choices=list(WRITERS), default="npz", help="file format (default: npz)")
    args = parser.parse_args()
    if min(args.files, args.val_files, args.seed) < 0 or args.jets < 1:
        parser.exit(2, "draw.py: --files, --val_files and --seed must not be negative, --jets must be at least 1\n")
    try:
        draw_files(args.folder, args.files, args.val_files, args.jets, args.seed, args.format)
    except OSError as error:
        parser.exit(2, f"draw.py: {error}\n")
    except ModuleNotFoundError:
        parser.exit(2, "draw.py: --format parquet requires pyarrow: pip install 'tfaip_like[parquet]'\n")


if __name__ == "__main__":
    main()
