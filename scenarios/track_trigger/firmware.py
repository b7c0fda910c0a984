"""Fixed-point weights for firmware: python -m scenarios.track_trigger.firmware RUN weights.json --bits 18.

Writes the best weights of a run, or those of an export, as signed integers of `--bits` bits, to be divided by
2 ** fraction_bits. Each layer has the most fraction bits for which its largest weight fits. Does not need TensorFlow.
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
    """Return the most fraction bits for which all weights fit into `bits` bits, sign included."""
    largest = float(np.abs(weights).max(initial=0))
    if largest == 0:
        return bits - 1
    return math.floor(math.log2((2 ** (bits - 1) - 1) / largest))


def to_fixed_point(weights: npt.NDArray[np.floating[Any]], fraction: int) -> list[Any]:
    """Return weights as the nearest integers, in units of 2 ** -fraction."""
    integers: list[Any] = np.rint(np.ldexp(weights.astype(np.float64), fraction)).astype(np.int64).tolist()
    return integers


def convert_to_fixed_point(export: Path, bits: int) -> Mapping[str, Any]:
    """Return the network of an export as JSON values; `weights[i][j]` connects input i with neuron j.

    Args:
        export: directory of the export.
        bits: bits of a weight, sign included.

    Raises:
        UsageError: if it is not an export of this scenario.
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
            f"{export}: not an export of scenarios.track_trigger but of {params.get('class')} (missing {error})"
        ) from error
    except (OSError, LookupError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise UsageError(f"{export}: not a run or export of scenarios.track_trigger: {error}") from error
    layers = []
    for activation, (kernel, bias) in zip(activations, arrays, strict=True):
        fraction = fraction_bits(np.append(kernel, bias), bits)
        integers = {"weights": to_fixed_point(kernel, fraction), "biases": to_fixed_point(bias, fraction)}
        layers.append({"activation": activation, "fraction_bits": fraction, **integers})
    return {"expert": expert, "bits": bits, "layers": layers}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Write the weights of a network as fixed-point numbers, in JSON.")
    parser.add_argument("run", type=Path, help="run directory (best weights) or export directory")
    parser.add_argument("file", type=Path, help="JSON file to write")
    parser.add_argument("--bits", type=int, default=18, help="bits of a weight, sign included (default: 18)")
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
