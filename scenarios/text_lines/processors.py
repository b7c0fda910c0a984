"""Processors from line images to network inputs, and from network outputs to text."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tfaip_like import Mode, Processor, Sample
from tfaip_like.data import DropSample, read_image

GrayImage = npt.NDArray[np.uint8]
"""Grayscale image (height, width), dark on light."""


@cache
def read_codec(file: Path) -> str:
    """Return the characters of a codec; the first one has the code 1."""
    return file.read_text(encoding="utf-8")


class ReadImage(Processor):
    """Reader of the image file of a sample."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        return dataclasses.replace(sample, inputs={"image": read_image(sample.meta["file"])})


class Augment(Processor):
    """Augmentation with random width, position, sharpness, contrast and noise."""

    stretch: float = 0.1
    """Maximum relative change of the width."""

    noise: float = 8.0
    """Maximum standard deviation of the noise, in gray values (0 to 255)."""

    modes = (Mode.TRAIN,)

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        grey = np.asarray(sample.inputs["image"], dtype=np.float32)
        width = max(2, round(grey.shape[1] * random.uniform(1 - self.stretch, 1 + self.stretch)))
        places = np.linspace(0, grey.shape[1] - 1, width, dtype=np.float32)
        left = np.minimum(places.astype(np.int64), max(0, grey.shape[1] - 2))
        right = np.minimum(left + 1, grey.shape[1] - 1)
        share = places - left
        grey = grey[:, left] * (1 - share) + grey[:, right] * share
        rows = np.arange(len(grey)) + random.integers(-1, 2)
        grey = grey[rows.clip(0, len(grey) - 1)]
        if random.random() < 0.3:
            padded = np.pad(grey, ((0, 0), (1, 1)), mode="edge")
            grey = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
        middle = grey.mean()
        grey = middle + (grey - middle) * random.uniform(0.7, 1.3) + random.uniform(-20, 20)
        grey += random.normal(0, random.uniform(0, self.noise), grey.shape).astype(np.float32)
        return dataclasses.replace(sample, inputs={"image": grey.clip(0, 255).astype("uint8")})


class ScaleHeight(Processor):
    """Scaling to a fixed height and normalization: 0 is the background, 255 the darkest ink; time is the first axis."""

    height: int = 32
    """Height in pixels."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        from PIL import Image

        grey = np.asarray(sample.inputs["image"])
        width = scaled_width(grey.shape[1], grey.shape[0], self.height)
        scaled = np.asarray(Image.fromarray(grey).resize((width, self.height), Image.Resampling.BILINEAR))
        ground, darkest = float(np.percentile(scaled, 90)), float(scaled.min())
        ink = (ground - scaled.astype("float32")) * (255 / max(1.0, ground - darkest))
        image = ink.clip(0, 255).astype("uint8").T
        return dataclasses.replace(sample, inputs={"image": image, "width": np.int32(width)})


def scaled_width(width: int, height: int, new_height: int) -> int:
    """Return the width of an image after scaling to another height."""
    return max(1, round(width * new_height / height))


class Encode(Processor):
    """Conversion of the transcription into codes."""

    codec: Path
    """File with the characters of the codec."""

    shrink: int = 4
    """Image columns per step of the network."""

    drop_narrow: bool = False
    """Drop lines that are too narrow for their text, which CTC cannot align."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        text = sample.meta["text"]
        code_of = _read_character_codes(self.codec)
        codes = np.array([code_of[c] for c in text if c in code_of], np.int32)
        steps = int(sample.inputs["width"]) // self.shrink
        needed = len(codes) + int((codes[1:] == codes[:-1]).sum())
        if self.drop_narrow and needed > steps:
            raise DropSample(f"too narrow for its text: {needed} steps needed, {steps} available")
        return dataclasses.replace(sample, targets={"codes": codes, "length": np.int32(len(codes))})


class Decode(Processor):
    """Conversion of predicted codes into text."""

    codec: Path
    """File with the characters of the codec."""

    def process(self, sample: Sample, random: np.random.Generator) -> Sample:
        characters = read_codec(self.codec)
        codes = [int(code) for code in sample.outputs["codes"] if code > 0]
        return dataclasses.replace(
            sample, outputs={**sample.outputs, "text": "".join(characters[c - 1] for c in codes)}
        )


@cache
def _read_character_codes(file: Path) -> dict[str, int]:
    return {character: code for code, character in enumerate(read_codec(file), 1)}
