"""Images of every mode and format that Pillow opens: the right pixels, or an error that names the file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tfaip_like import Mode, Sample, UsageError
from tfaip_like.data import (
    AddClassName,
    ImageFiles,
    ImageFolder,
    ImageFolderData,
    class_folders,
    image_size,
    read_image,
)
from tfaip_like.data._sources.images import _convert_color, check_same_classes

Array = np.ndarray[Any, Any]

RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)

# Mode: an image of one pixel, and its colour.
MODES: dict[str, tuple[Any, Any]] = {
    "1": (1, WHITE),
    "L": (77, (77, 77, 77)),
    "P": (0, RED),
    "RGB": (RED, RED),
    "RGBA": ((255, 0, 0, 0), WHITE),
    "CMYK": ((0, 255, 255, 0), RED),
    "YCbCr": ((76, 85, 255), RED),
    "LAB": ((138, 209, 198), RED),
    "HSV": ((0, 255, 255), RED),
    "LA": ((0, 51), (204, 204, 204)),
    "PA": ((0, 0), WHITE),
    "RGBX": ((255, 0, 0, 7), RED),
    "RGBa": ((0, 0, 0, 0), WHITE),
    "La": ((0, 51), (204, 204, 204)),
    "I;16": (10000, (39, 39, 39)),
    "I;16L": (10000, (39, 39, 39)),
    "I;16B": (10000, (39, 39, 39)),
    "I;16N": (10000, (39, 39, 39)),
}


def of_mode(mode: str, pixel: Any) -> Image.Image:
    image = Image.new(mode, (2, 1), pixel)
    if mode in ("P", "PA"):
        image.putpalette([*RED, *GREEN])
    return image


@pytest.mark.parametrize("mode", MODES)
def test_a_pixel_of_every_mode_has_its_colour(mode: str) -> None:
    pixel, expected = MODES[mode]
    image = of_mode(mode, pixel)
    found = np.asarray(_convert_color(image, "RGB"))
    assert found.shape == (1, 2, 3)
    assert np.abs(found[0, 0].astype(int) - expected).max() <= 6
    grey = np.asarray(_convert_color(image, "L"))
    assert abs(int(grey[0, 0]) - np.dot(expected, [0.299, 0.587, 0.114])) <= 3
    assert np.asarray(_convert_color(image, "RGBA")).shape == (1, 2, 4)
    assert np.asarray(_convert_color(image, "LA")).shape == (1, 2, 2)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_values_without_a_known_black_and_white_are_rejected(mode: str) -> None:
    with pytest.raises(ValueError, match="of unknown range"):
        _convert_color(Image.new(mode, (1, 1)), "L")


def test_every_mode_of_pillow_is_covered() -> None:
    assert set(Image.MODES) <= {*MODES, "I", "F"}


@pytest.mark.parametrize("ending", ["png", "tif", "jpg", "gif", "bmp", "webp"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_that_a_format_can_hold_is_read_from_a_file(mode: str, ending: str, tmp_path: Path) -> None:
    pixel, expected = MODES[mode]
    file = tmp_path / f"a.{ending}"
    try:
        of_mode(mode, pixel).resize((16, 16), Image.Resampling.NEAREST).save(file)
    except (OSError, ValueError, KeyError):
        pytest.skip("cannot be written")
    with Image.open(file) as image:
        kept = image.mode == mode or (mode in ("1", "L", "RGB", "RGBA") and ending == "png")
        is_lossy = ending in ("jpg", "webp")
    found = read_image(file, "RGB")
    assert found.shape == (16, 16, 3)
    if kept:
        assert np.abs(found[8, 8].astype(int) - expected).max() <= (12 if is_lossy else 6)


def tiff(
    values: Array, photometric: int = 1, sample_format: int = 1, bits: int | None = None, width: int | None = None
) -> bytes:
    """Return a grey TIFF file of any type of number, which Pillow cannot write."""
    data, height, width = values.tobytes(), len(values), width or values.shape[1]
    data += b"\0" * (len(data) % 2)
    bits = bits or 8 * values.itemsize
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    tags[339] = sample_format
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + b"\0\0\0\0"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (tiff(np.array([[0, 128, 255]], "u1")), [0, 128, 255]),
        (tiff(np.array([[0, 128, 255]], "u1"), photometric=0), [255, 127, 0]),
        (tiff(np.array([[0, 10000, 65535]], "<u2")), [0, 39, 255]),
        (tiff(np.array([[0, 10000, 65535]], "<u2"), photometric=0), [255, 216, 0]),
        (tiff(np.array([[0xFF, 0xF8, 0x00]], "u1"), bits=12, width=2), [255, 128]),
    ],
)
def test_grey_tiffs_of_8_12_and_16_bits_are_scaled(content: bytes, expected: list[int], tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    assert read_image(tmp_path / "a.tif").tolist() == [expected]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"P5 3 1 65535\n" + struct.pack(">HHH", 0, 10000, 65535), [0, 39, 255]),
        (b"P5 2 1 1023\n" + struct.pack(">HH", 0, 1023), [0, 255]),
        (b"P2 2 1 4095\n0 4095\n", [0, 255]),
        (b"P5 2 1 7\n\0\7", [0, 255]),
    ],
)
def test_pgm_files_of_any_largest_value_are_scaled(content: bytes, expected: list[int], tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(content)
    assert read_image(tmp_path / "a.pgm").tolist() == [expected]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (tiff(np.array([[-5, 5]], "i1"), sample_format=2), "signed integers"),
        (tiff(np.array([[-5, 5]], "<i2"), sample_format=2), "signed integers"),
        (tiff(np.array([[0, 2**32 - 1]], "<u4")), "32-bit integers"),
        (tiff(np.array([[0, 5]], "<i4"), sample_format=2), "signed integers"),
        (tiff(np.array([[0, 1]], "<f4"), sample_format=3), "floats"),
        (tiff(np.array([[0, 1]], "<f8"), sample_format=3), "cannot be read as an image"),
        (b"GIF89a nonsense", "cannot be read as an image"),
        (b"", "cannot be read as an image"),
    ],
)
def test_images_that_cannot_be_scaled_are_rejected_by_their_name(content: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read_image(tmp_path / "a.tif")
    assert str(raised.value).startswith(f"{tmp_path}/a.tif: cannot be read as an image")
    assert what in str(raised.value)


def saved(tmp_path: Path, image: Image.Image, name: str, **options: Any) -> Path:
    image.save(tmp_path / name, **options)
    return tmp_path / name


def transparent(mode: str, key: Any) -> Callable[[Path], Path]:
    """Return what writes a PNG of two pixels, of which the first has the transparent colour."""

    def write(tmp_path: Path) -> Path:
        image = Image.new(mode, (2, 1))
        if mode == "P":
            image.putpalette([*RED, *GREEN])
        if mode == "I;16":
            image = Image.fromarray(np.array([[40000, 0]], np.uint16))
        else:
            image.putpixel((0, 0), key if mode != "P" else 0)
            image.putpixel((1, 0), {"P": 1, "RGB": GREEN}.get(mode, 0))
        return saved(tmp_path, image, "a.png", transparency=key)

    return write


@pytest.mark.parametrize(
    ("write", "second"),
    [
        (transparent("L", 5), BLACK),
        (transparent("RGB", RED), GREEN),
        (transparent("P", 0), GREEN),
        (transparent("P", b"\0\xff"), GREEN),
        (transparent("I;16", 40000), BLACK),
    ],
)
def test_a_transparent_colour_is_composited_over_white(
    write: Callable[[Path], Path], second: tuple[int, ...], tmp_path: Path
) -> None:
    file = write(tmp_path)
    assert read_image(file, "RGB").tolist() == [[list(WHITE), list(second)]]
    assert read_image(file, "L")[0, 0] == 255
    assert read_image(file, "RGBA")[0, :, 3].tolist() == [0, 255]


def test_alpha_is_kept_or_is_composited_over_white(tmp_path: Path) -> None:
    file = saved(tmp_path, Image.new("RGBA", (1, 1), (255, 0, 0, 51)), "a.png")
    assert read_image(file, "RGBA").tolist() == [[[255, 0, 0, 51]]]
    assert read_image(file, "RGB").tolist() == [[[255, 204, 204]]]
    assert read_image(file, "LA")[0, 0, 1] == 51
    assert read_image(saved(tmp_path, Image.new("RGB", (1, 1), RED), "b.png"), "RGBA").tolist() == [[[255, 0, 0, 255]]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_png_of_few_bits_reaches_from_black_to_white(bits: int, tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([step for grey in np.linspace(0, 255, 2**bits) for step in [int(grey)] * 3])
    image.putpixel((1, 0), 2**bits - 1)
    assert read_image(saved(tmp_path, image, "a.png", bits=bits)).tolist() == [[0, 255]]


def png(bits: int, color_type: int, pixel: bytes, transparent: bytes = b"") -> bytes:
    """Return a PNG file of one pixel, of any depth; Pillow cannot write them all."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, bits, color_type, 0, 0, 0))
    header += chunk(b"tRNS", transparent) if transparent else b""
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" + pixel)) + chunk(b"IEND", b"")


DEEP = struct.pack(">3H", 65535, 10000, 0)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (png(2, 0, b"\x40"), (85, 85, 85, 255)),
        (png(4, 0, b"\x30"), (51, 51, 51, 255)),
        (png(1, 0, b"\x80", struct.pack(">H", 1)), (255, 255, 255, 0)),
        (png(2, 0, b"\x40", struct.pack(">H", 1)), (85, 85, 85, 0)),
        (png(4, 0, b"\x30", struct.pack(">H", 3)), (51, 51, 51, 0)),
        (png(8, 0, b"\x30", struct.pack(">H", 3)), (48, 48, 48, 255)),
        (png(16, 0, DEEP[2:4]), (39, 39, 39, 255)),
        (png(16, 0, DEEP[2:4], DEEP[2:4]), (39, 39, 39, 0)),
        (png(16, 2, DEEP), (255, 39, 0, 255)),
        (png(16, 2, DEEP, DEEP), (255, 39, 0, 0)),
        (png(16, 4, DEEP[2:]), (39, 39, 39, 0)),
        (png(16, 6, DEEP + b"\x80\0"), (255, 39, 0, 128)),
    ],
)
def test_a_png_of_any_depth_has_its_colour(content: bytes, expected: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(content)
    found = read_image(tmp_path / "a.png", "RGBA")[0, 0].tolist()
    assert found == pytest.approx(expected, abs=1)
    if expected[3] == 0:
        assert read_image(tmp_path / "a.png", "RGB").tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_as_its_orientation_says(orientation: int, ending: str, tmp_path: Path) -> None:
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :8] = 255  # the upper left corner
    back = {
        1: [], 2: [Image.Transpose.FLIP_LEFT_RIGHT], 3: [Image.Transpose.ROTATE_180],
        4: [Image.Transpose.FLIP_TOP_BOTTOM], 5: [Image.Transpose.TRANSPOSE], 6: [Image.Transpose.ROTATE_90],
        7: [Image.Transpose.TRANSVERSE], 8: [Image.Transpose.ROTATE_270],
    }  # fmt: skip
    stored = Image.fromarray(upright).convert("RGB")
    for turn in back[orientation]:
        stored = stored.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {274: orientation}} if ending == "tif" else {"exif": exif}
    file = saved(tmp_path, stored, f"a.{ending}", **options)
    found = read_image(file)
    assert found.shape == (16, 32)
    assert np.abs(found.astype(int) - upright).max() < 60
    assert image_size(file) == (32, 16)


def test_deep_grey_is_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.array([[0, 65535, 0]], np.uint16))
    assert read_image(saved(tmp_path, stored, "a.png", exif=exif)).tolist() == [[0], [255], [0]]


@pytest.mark.parametrize("ending", ["gif", "png", "webp", "tif"])
def test_the_first_image_of_many_is_read(ending: str, tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), value) for value in (200, 0)]
    file = saved(tmp_path, frames[0], f"a.{ending}", save_all=True, append_images=frames[1:])
    assert abs(int(read_image(file)[4, 4]) - 200) <= 2


@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "bmp", "gif", "webp"])
def test_a_truncated_file_is_rejected(ending: str, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    file = saved(tmp_path, Image.fromarray(noise), f"a.{ending}")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UsageError, match=rf"a\.{ending}: cannot be read as an image: "):
        read_image(file)


def test_a_decompression_bomb_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = saved(tmp_path, Image.new("1", (100, 100)), "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UsageError, match=r"a\.png: cannot be read as an image: .*decompression bomb"):
        read_image(file)


def test_images_are_scaled_to_a_size(tmp_path: Path) -> None:
    file = saved(tmp_path, Image.new("RGB", (30, 20), RED), "a.png")
    assert read_image(file, "RGB", size=(4, 6)).shape == (4, 6, 3)


def test_image_files_are_given_as_paths_or_texts(tmp_path: Path) -> None:
    file = saved(tmp_path, Image.new("RGB", (3, 2), RED), "a.png")
    assert [sample.meta["file"] for sample in ImageFiles([file, str(file)])] == [str(file), str(file)]
    with pytest.raises(UsageError, match="unknown color mode 'rgb'; expected one of L, LA, RGB, RGBA"):
        ImageFiles([file], "rgb")  # type: ignore[arg-type]


def pictures(folder: Path, *names: str) -> Path:
    content = io.BytesIO()
    Image.new("L", (2, 2)).save(content, "PNG")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.getvalue())
    return folder


def test_hidden_and_empty_folders_are_not_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures(tmp_path, "ant/1.png", "bee/deep/2.PNG", "bee/.thumbnails/2.png", "bee/._2.png", "bee/@eaDir/3.png")
    pictures(tmp_path, ".git/1.png", ".ipynb_checkpoints/1.png", "__MACOSX/ant/._1.png", "loose.png")
    (tmp_path / "aardvark").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("no image")
    source = ImageFolder(tmp_path)
    assert class_folders(tmp_path) == source.classes == ["ant", "bee"]
    assert [(Path(sample.meta["file"]).name, int(sample.targets["label"])) for sample in source] == [
        ("1.png", 0),
        ("2.PNG", 1),
    ]
    assert "ignoring 1 image outside the class directories" in caplog.text


def test_labels_mean_the_same_in_every_folder_with_given_classes(tmp_path: Path) -> None:
    train = ImageFolder(pictures(tmp_path / "train", "ant/1.png", "bee/1.png", "cat/1.png"))
    val = ImageFolder(pictures(tmp_path / "val", "bee/2.png", "cat/1.png"), classes=train.classes)
    assert val.classes == ["ant", "bee", "cat"]
    assert [int(sample.targets["label"]) for sample in val] == [1, 2]
    with pytest.raises(UsageError, match=r"odd: dog not in the classes \(ant, bee, cat\); add the missing class"):
        ImageFolder(pictures(tmp_path / "odd", "dog/1.png", "ant/1.png"), classes=train.classes)


def test_folders_that_number_their_classes_differently_are_rejected(tmp_path: Path) -> None:
    train = ImageFolder(pictures(tmp_path / "train", "ant/1.png", "bee/1.png"))
    val = ImageFolder(pictures(tmp_path / "val", "bee/2.png"))
    with pytest.raises(
        UsageError, match=r"--val: .*val has the classes bee, but .*train has ant, bee; pass the training classes"
    ):
        check_same_classes(train, val, "val")
    check_same_classes(train, ImageFolder(tmp_path / "val", classes=train.classes), "val")
    check_same_classes(train, [Sample()], "val")


def test_the_classes_of_image_folder_data_are_those_of_the_training(tmp_path: Path) -> None:
    pictures(tmp_path / "train", "ant/1.png", "bee/1.png", "cat/1.png")
    pictures(tmp_path / "val", "cat/1.png")
    data = ImageFolderData(folder=tmp_path / "train", val_folder=tmp_path / "val", size=(4, 6), color="LA")
    prepared = data.adapt()
    assert prepared.classes == ["ant", "bee", "cat"]
    pictures(tmp_path / "train", "aardvark/1.png")  # later, which must not shift any label
    val = prepared.source(Mode.EVALUATE)
    assert isinstance(val, ImageFolder)
    assert val.labels.tolist() == [2]
    assert val[0].inputs["image"].shape == data.inputs["image"].shape == (4, 6, 2)
    with pytest.raises(UsageError, match=r"aardvark not in the classes \(ant, bee, cat"):
        prepared.source(Mode.TRAIN)
    with pytest.raises(UsageError, match=r"--data\.predict_folder is required"):
        prepared.source(Mode.PREDICT)
    assert [type(processor) for processor in prepared.post_pipeline(Mode.PREDICT)] == [AddClassName]


def test_images_to_predict_need_no_folders_of_classes(tmp_path: Path) -> None:
    pictures(tmp_path, "1.png", "deep/2.png", ".hidden.png")
    source = ImageFolderData(folder=tmp_path, predict_folder=tmp_path).source(Mode.PREDICT)
    assert source is not None
    assert [Path(sample.meta["file"]).name for sample in source] == ["1.png", "2.png"]


@pytest.mark.parametrize(("outputs", "name"), [({"p": [0.1, 0.9]}, "bee"), ({"p": [0.1]}, None), ({}, None)])
def test_a_prediction_has_the_name_of_its_class(outputs: dict[str, list[float]], name: str | None) -> None:
    made = AddClassName(classes=["ant", "bee"]).process(Sample(outputs=outputs, meta={}), np.random.default_rng(0))
    assert made.meta.get("class") == name


def test_a_folder_without_images_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere: no such directory"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no subdirectory contains images"):
        ImageFolder(pictures(tmp_path, "1.png", ".hidden/1.png"))


SCENARIO = """
from pathlib import Path

from tfaip_like import Data, Mode, Model, Scenario, Spec, Tensors, keras
from tfaip_like.data import ImageFolder


class Pictures(Data):
    \"\"\"Two folders that are read alike.\"\"\"

    inputs = {"image": Spec((2, 2, 3), "uint8")}
    targets = {"label": Spec((), "int32")}

    def source(self, mode: Mode) -> ImageFolder:
        return ImageFolder(Path("train" if mode is Mode.TRAIN else "val"))


class Classifier(Model):
    \"\"\"A dense layer.\"\"\"

    def build(self, inputs: Tensors) -> Tensors:
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs["image"]))
        return {"p": keras.layers.Dense(2, activation="softmax")(x)}

    def loss(self, inputs: Tensors, targets: Tensors, outputs: Tensors) -> Tensors:
        return {"cross_entropy": keras.losses.sparse_categorical_crossentropy(targets["label"], outputs["p"])}


class Folders(Scenario):
    \"\"\"Ants and bees.\"\"\"

    data: Data = Pictures()
    model: Model = Classifier()
"""


def test_a_training_rejects_validation_images_with_other_labels(quick_run: Callable[..., Any], tmp_path: Path) -> None:
    pictures(tmp_path, "train/ant/1.png", "train/bee/1.png", "val/bee/2.png")
    (tmp_path / "folders.py").write_text(SCENARIO)
    done = quick_run("train-scenario", "folders.py", "--train.batch_size", 1, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1] == (
        "train-scenario: --val: val has the classes bee, but train has ant, bee; pass the training classes: "
        "ImageFolder('val', classes=...)"
    )
