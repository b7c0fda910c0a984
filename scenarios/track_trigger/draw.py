"""Generator of tracks in a drift chamber, as seen by a trigger.

The chamber has nine layers of wires. Every second one is a stereo layer, rotated by a small angle, so that the crossing
point depends on the position along the beam. Each layer yields three values: the hit wire, relative to the expected
crossing of a track from the center; the drift time, i.e. the distance to the wire without its sign; and the crossing
angle. The first expert has tracks with hits in all layers, each other expert has tracks without hits in one of the
stereo layers, whose values are 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

RADII = np.array([20.0, 28.0, 38.0, 48.0, 59.0, 70.0, 81.0, 92.0, 103.0])
"""Radii of the layers, in cm."""
STEREO = np.array([0.0, 0.06, 0.0, -0.06, 0.0, 0.07, 0.0, -0.07, 0.0])
"""Angles between wires and beam, in radians."""
CELL = 1.6
"""Distance between wires, in cm."""
BEND = 220.0
"""Radius of curvature of a track of 1 GeV, in cm."""

MAX_Z_CM = 100.0
"""Maximum distance z of tracks from the center along the beam, in cm."""
MIN_THETA, MAX_THETA = np.radians(30), np.radians(150)
"""Range of the polar angle theta of tracks, in radians."""

EXPERTS = (1, 2, 3, 4, 5)
EXPERT_PROBABILITIES = (0.4, 0.15, 0.15, 0.15, 0.15)
NUM_INPUTS = 3 * len(RADII)


def draw_tracks(count: int, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return hits (count, 27), tracks (count, 2) with z and theta scaled to [-1, 1], and experts (count,)."""
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
    """Return whether tracks have hit each layer, from hits (..., 27) to (..., 9)."""
    is_seen: Array = np.any(np.reshape(hits, (*np.shape(hits)[:-1], len(RADII), 3)), axis=-1)
    return is_seen


def select_expert(hits: Array) -> int:
    """Return the expert of a track with hits (27,): the first one unless a stereo layer is missing."""
    missing = np.flatnonzero(~find_hit_layers(hits)[np.flatnonzero(STEREO)])
    return EXPERTS[1 + missing[0]] if len(missing) else EXPERTS[0]
