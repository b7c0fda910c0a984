"""Draws tracks through a drift chamber: what a trigger sees of them, and where they come from.

Nine layers of wires, every second one at a small angle to the others, so that the place at which a track crosses it
tells how far along the beam it is. Each layer gives three numbers: which wire was hit, relative to where the track
would cross if it began in the middle; the drift time, which says how far from the wire it passed, not on which side;
and the angle of crossing. Each expert has tracks of its own: the first those with hits in all layers, the others those
that miss one of the stereo layers, whose three numbers are 0 then.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

RADII = np.array([20.0, 28.0, 38.0, 48.0, 59.0, 70.0, 81.0, 92.0, 103.0])
"""Of the layers, in cm."""
STEREO = np.array([0.0, 0.06, 0.0, -0.06, 0.0, 0.07, 0.0, -0.07, 0.0])
"""Angles of their wires to the beam."""
CELL = 1.6
"""Distance of two wires, in cm."""
BEND = 220.0
"""Radius of the circle of a track of 1 GeV, in cm."""

MAX_Z_CM = 100.0
"""Most that tracks are away from the middle along the beam, in cm: their z."""
MIN_THETA, MAX_THETA = np.radians(30), np.radians(150)
"""Angles to the beam: their theta."""

EXPERTS = (1, 2, 3, 4, 5)
EXPERT_PROBABILITIES = (0.4, 0.15, 0.15, 0.15, 0.15)
NUM_INPUTS = 3 * len(RADII)


def draw_tracks(count: int, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Hits (count, 27), tracks (count, 2) as z and theta from -1 to 1, and the expert of each."""
    from_collision = random.random(count) < 0.6
    z = np.where(from_collision, random.normal(0, 4, count), random.uniform(-MAX_Z_CM, MAX_Z_CM, count))
    theta = np.arccos(random.uniform(np.cos(MAX_THETA), np.cos(MIN_THETA), count))
    momentum = 0.3 + random.exponential(0.7, count)
    charge = random.choice([-1, 1], count)
    circle = BEND * momentum[:, None]
    arc = 2 * circle * np.arcsin(np.minimum(RADII / (2 * circle), 1))
    along = z[:, None] + arc / np.tan(theta)[:, None]
    crossing = charge[:, None] * np.arcsin(np.minimum(RADII / (2 * circle), 1))
    place = np.tan(STEREO) * along + random.normal(0, 0.03, (count, len(RADII)))
    to_wire = random.random((count, len(RADII))) - 0.5
    wire = np.round(place / CELL + to_wire) - to_wire
    drift = np.abs(place / CELL - wire) + random.normal(0, 0.02, (count, len(RADII)))
    expert = random.choice(EXPERTS, count, p=EXPERT_PROBABILITIES)
    hits = np.stack([wire * CELL / 4, 4 * drift - 1, 2 * crossing], axis=2)
    for missing, layer in zip(EXPERTS[1:], np.flatnonzero(STEREO), strict=True):
        hits[expert == missing, layer] = 0
    tracks = np.stack([z / MAX_Z_CM, 2 * (theta - MIN_THETA) / (MAX_THETA - MIN_THETA) - 1], axis=1)
    return (
        hits.reshape(count, NUM_INPUTS).astype(np.float32),
        tracks.clip(-1, 1).astype(np.float32),
        expert.astype(np.int32),
    )


def find_hit_layers(hits: Array) -> Array:
    """Return whether a track, or each of many, has hit each layer."""
    is_seen: Array = np.any(np.reshape(hits, (*np.shape(hits)[:-1], len(RADII), 3)), axis=-1)
    return is_seen


def select_expert(hits: Array) -> int:
    """The expert for a track: the first, unless a stereo layer is missing."""
    missing = np.flatnonzero(~find_hit_layers(hits)[np.flatnonzero(STEREO)])
    return EXPERTS[1 + missing[0]] if len(missing) else EXPERTS[0]
