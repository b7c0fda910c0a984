"""Generator of synthetic text lines: python draw.py OUTPUT_DIR --lines 1000.

Writes the images OUTPUT_DIR/lines/00001.png, ..., their transcriptions 00001.gt.txt, ..., and the list files train.lst
and val.lst. All texts are distinct; the same seed and fonts generate the same lines.
"""

from __future__ import annotations

import argparse
import contextlib
import glob
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = """above after also apple arrow away back bank bell bird boat book bread bridge bring castle church city dark
deep dream east egg evening eye field first fish five flower foot forest four friend from garden gold grass green ground
half heavy here hill home hour house in iron jacket joy mountain music night north oak ocean old open paper path pencil
people place queen question quick quiet rain red river road salt sand ship silver sky sleep snow song spring stone
street sun the thousand three town train tree village voice water white wild window wood yard year yellow zero zone"""
CONSONANTS, VOWELS, PUNCTUATION = "bcdfghjklmnpqrstvwxyz", "aeiou", ".,;:!?"
CHARACTERS = CONSONANTS + CONSONANTS.upper() + VOWELS + VOWELS.upper() + "0123456789" + PUNCTUATION + "()-"
MIN_CHARACTERS, MAX_CHARACTERS = 10, 30
MAX_SYSTEM_FONTS = 20
NON_LATIN_FONT_NAMES = ("symbol", "math", "emoji", "icon", "dingbat", "bats", "awesome", "music", "braille")


def draw_pseudo_word(random: np.random.Generator) -> str:
    """Return a word of random syllables, which has rare letters and cannot be memorized."""
    syllables = [random.choice(list(CONSONANTS)) + random.choice(list(VOWELS)) for _ in range(random.integers(1, 4))]
    return "".join(syllables) + (random.choice(list(CONSONANTS)) if random.random() < 0.5 else "")


def draw_word(random: np.random.Generator) -> str:
    """Return a word or a number, sometimes capitalized, with punctuation or in brackets."""
    kind, style, ending = random.random(3)
    text = str(random.choice(WORDS.split())) if kind < 0.45 else draw_pseudo_word(random)
    text = text.upper() if style < 0.06 else text.capitalize() if style < 0.25 else text
    if kind > 0.85:
        text = str(random.integers(0, 10 ** random.integers(1, 5)))
    if ending < 0.04:
        return f"({text})"
    if ending < 0.08:
        return f"{text}-{draw_pseudo_word(random)}"
    return text + random.choice(list(PUNCTUATION)) if ending < 0.25 else text


def draw_phrase(random: np.random.Generator) -> str:
    """Return a phrase of MIN_CHARACTERS to MAX_CHARACTERS characters."""
    longest = int(random.integers(MIN_CHARACTERS + 4, MAX_CHARACTERS + 1))
    text = draw_word(random)
    while len(text) < MIN_CHARACTERS or len(text) + 4 < longest:
        text = f"{text} {draw_word(random)}"
    return text[:longest].strip()


def draw_unique_phrases(count: int, random: np.random.Generator) -> list[str]:
    """Return distinct phrases."""
    phrases: dict[str, None] = {}
    while len(phrases) < count:
        phrases[draw_phrase(random)] = None
    return list(phrases)


def has_all_glyphs(font: ImageFont.FreeTypeFont) -> bool:
    """Return whether a font has all characters; a missing one looks like a code point that no font has."""
    missing = bytes(font.getmask("\U0010fffe"))
    masks = {bytes(font.getmask(character)) for character in CHARACTERS}
    return missing not in masks and len(masks) > len(CHARACTERS) // 2


def load_fonts(paths: list[str], limit: int) -> list[ImageFont.FreeTypeFont]:
    """Return the fonts with all characters, at most `limit`."""
    fonts: list[ImageFont.FreeTypeFont] = []
    for path in paths:
        with contextlib.suppress(OSError):
            font = ImageFont.truetype(path, 26)
            if len(fonts) < limit and has_all_glyphs(font):
                fonts.append(font)
    return fonts


def find_fonts(patterns: list[str] | None, random: np.random.Generator) -> list[ImageFont.FreeTypeFont]:
    """Return the fonts that match glob patterns, or by default that of Pillow and some of the system's."""
    if patterns is not None:
        paths = sorted({path for pattern in patterns for path in glob.glob(pattern, recursive=True)})
        return load_fonts(paths, len(paths))
    system = sorted(str(path) for path in Path("/usr/share/fonts").rglob("*.[to]tf"))
    latin = [path for path in system if not any(name in Path(path).name.lower() for name in NON_LATIN_FONT_NAMES)]
    default = ImageFont.load_default(26)
    built_in = [default] if isinstance(default, ImageFont.FreeTypeFont) else []
    return built_in + load_fonts(list(random.permutation(latin)), MAX_SYSTEM_FONTS)


def render_line(text: str, font: ImageFont.FreeTypeFont, random: np.random.Generator) -> Image.Image:
    """Return an image of dark text on light background, with random size, margins, slant, contrast and noise."""
    font = font.font_variant(size=int(random.integers(23, 31)))
    _, top, _, bottom = font.getbbox("(dgjy)", anchor="ls")
    left, _, right, _ = font.getbbox(text, anchor="ls")
    over, under, before, behind = (int(margin) for margin in random.integers(3, 9, size=4))
    size = int(right - left) + before + behind, int(bottom - top) + over + under
    ink = Image.new("L", size)
    ImageDraw.Draw(ink).text((before - left, over - top), text, fill=255, font=font, anchor="ls")
    slant, tilt = random.uniform(-0.12, 0.12), random.uniform(-2.5, 2.5) / size[0]
    change = (1, slant, -slant * size[1] / 2, tilt, 1, -tilt * size[0] / 2)
    ink = ink.transform(size, Image.Transform.AFFINE, change, Image.Resampling.BILINEAR)
    light, dark = random.uniform(190, 250), random.uniform(10, 100)
    grey = light + np.asarray(ink, "float64") / 255 * (dark - light)
    grey += random.normal(0, random.uniform(1, 9), grey.shape)
    return Image.fromarray(grey.clip(0, 255).astype("uint8"))


def write_dataset(
    output_dir: Path, lines: int, val_lines: int, fonts: list[ImageFont.FreeTypeFont], random: np.random.Generator
) -> None:
    """Write images, transcriptions and list files.

    Args:
        output_dir: directory to write to, made if needed.
        lines: number of training lines.
        val_lines: number of validation lines.
        fonts: fonts to choose from, at least one.
        random: source of randomness.
    """
    (output_dir / "lines").mkdir(parents=True, exist_ok=True)
    names = [f"lines/{number:05}.png" for number in range(1, lines + val_lines + 1)]
    for name, text in zip(names, draw_unique_phrases(len(names), random), strict=True):
        render_line(text, fonts[random.integers(len(fonts))], random).save(output_dir / name)
        (output_dir / name).with_suffix(".gt.txt").write_text(text + "\n", encoding="utf-8")
    for name, chosen in (("train.lst", names[:lines]), ("val.lst", names[lines:])):
        (output_dir / name).write_text("".join(f"{image}\n" for image in chosen), encoding="utf-8")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Generate images of text lines and their transcriptions.")
    parser.add_argument("output_dir", type=Path, help="directory for images, transcriptions, train.lst and val.lst")
    parser.add_argument("--lines", type=int, default=1000, help="number of training lines (default: 1000)")
    parser.add_argument("--val_lines", type=int, default=200, help="number of validation lines (default: 200)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default: 1)")
    parser.add_argument("--fonts", nargs="+", metavar="GLOB", help="font files (default: Pillow's and the system's)")
    args = parser.parse_args()
    if min(args.lines, args.val_lines, args.seed) < 0:
        parser.exit(2, "draw.py: --lines, --val_lines and --seed must not be negative\n")
    random = np.random.default_rng(args.seed)
    fonts = find_fonts(args.fonts, random)
    if not fonts:
        parser.exit(2, f"draw.py: {'--fonts: ' if args.fonts else ''}no font found that has all characters\n")
    try:
        write_dataset(args.output_dir, args.lines, args.val_lines, fonts, random)
    except OSError as error:
        parser.exit(2, f"draw.py: {error}\n")


if __name__ == "__main__":
    main()
