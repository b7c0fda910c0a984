"""Weights for firmware: python -m scenarios.track_trigger.firmware RUN weights.json --bits 18.

Writes the best weights of a run (or an export) as fixed-point numbers: integers of so many bits with sign, to be
divided by 2 to the power of `fraction_bits`. Each layer has as many of these as let its largest weight fit. Needs no
TensorFlow.
"""

from __future__ import annotations

import argparse
import json
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tfaip_like import UsageError
from tfaip_like.inference import resolve_export_dir

MIN_BITS, MAX_BITS = 2, 32


def fraction_bits(weights: npt.NDArray[np.floating[Any]], bits: int) -> int:
    """The most bits behind the point with which all weights fit into so many bits."""
    largest = float(np.abs(weights).max(initial=0))
    if largest == 0:
        return bits - 1
    return math.floor(math.log2((2 ** (bits - 1) - 1) / largest))


def to_fixed_point(weights: npt.NDArray[np.floating[Any]], fraction: int) -> list[Any]:
    """Weights as the nearest integers, in units of 2 to the power of -`fraction`."""
    integers: list[Any] = np.rint(np.ldexp(weights.astype(np.float64), fraction)).astype(np.int64).tolist()
    return integers


def convert_to_fixed_point(export: Path, bits: int) -> Mapping[str, Any]:
    """What firmware needs of an export, as JSON values; `weights[i][j]` leads from input i to neuron j.

    Raises:
        UsageError: when it holds no network of this scenario.
    """
    params: dict[str, Any] = {}
    try:
        params = json.loads((export / "scenario_params.json").read_text(encoding="utf-8"))
        activations = [params["model"]["activation"]] * len(params["model"]["units"]) + ["tanh"]
        with np.load(export / "weights.npz", allow_pickle=False) as saved:
            numbered = range(len(activations))
            arrays = [(saved[f"layer_{number}/kernel"], saved[f"layer_{number}/bias"]) for number in numbered]
        expert = params["data"]["expert"]
    except KeyError as error:
        raise UsageError(
            f"{export}: is no run or export of scenarios.track_trigger but of {params.get('class')}: it has no {error}"
        ) from error
    except (OSError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{export}: is no run or export of scenarios.track_trigger: {error}") from error
    layers = []
    for activation, (kernel, bias) in zip(activations, arrays, strict=True):
        fraction = fraction_bits(np.append(kernel, bias), bits)
        integers = {"weights": to_fixed_point(kernel, fraction), "biases": to_fixed_point(bias, fraction)}
        layers.append({"activation": activation, "fraction_bits": fraction, **integers})
    return {"expert": expert, "bits": bits, "layers": layers}


def main() -> None:
    """Writes the file that the command line asks for."""
    parser = argparse.ArgumentParser(description="Writes the weights of a network as fixed-point numbers, in JSON.")
    parser.add_argument("run", type=Path, help="folder of a run (for its best weights) or of an export")
    parser.add_argument("file", type=Path, help="JSON file to write")
    parser.add_argument("--bits", type=int, default=18, help="bits of a weight, with its sign (default: 18)")
    args = parser.parse_args()
    if not MIN_BITS <= args.bits <= MAX_BITS:
        parser.exit(2, f"firmware.py: --bits must be from {MIN_BITS} to {MAX_BITS}\n")
    try:
        export = resolve_export_dir(args.run)
        written = convert_to_fixed_point(export, args.bits)
        args.file.write_text(json.dumps(written) + "\n", encoding="utf-8")
        print(f"{args.file}: weights of {len(written['layers'])} layers of {export}, {args.bits} bits each")
    except (UsageError, OSError) as error:
        parser.exit(2, f"firmware.py: {error}\n")


if __name__ == "__main__":
    main()
