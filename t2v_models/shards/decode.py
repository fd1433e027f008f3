"""Foreign media to frames: any picture format, size and timing becomes RGB pictures with the time each is shown.

Whatever is wrong with a file is a `ValueError` with the reason; what a decoder raises besides is up to the caller.
"""

import math
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import BITSPERSAMPLE as BITS
from PIL.TiffImagePlugin import PHOTOMETRIC_INTERPRETATION as PHOTOMETRIC
from PIL.TiffImagePlugin import SAMPLEFORMAT as SAMPLE_FORMAT
from PIL.TiffImagePlugin import TiffImageFile

from t2v_models.clips.spec import ClipSpec
from t2v_models.shards.film import film
from t2v_models.shards.frames import FRAME_SUFFIXES, frame_files
from t2v_models.shards.paths import printable
from t2v_models.shards.picture import Shown, Told, check_size, on_white
from t2v_models.shards.structure import gif_controls, see_one_webp

LONGEST_PICTURE = 600.0
"""Seconds one picture may stand still: times beyond this are damage."""
ROUNDED = 1e-6
"""Seconds by which sums of lengths may be wrong; media tell no finer times."""
SIXTEEN = ("PNG", "PPM")
"""Of these formats Pillow gives 16 bits as 32."""
HASTY, USUAL = 0.0105, 0.1
"""Seconds up to which browsers do not believe how long a GIF's or WebP's picture is shown, and for how long it is."""


def shown(path: Path, fps: float, told: Told) -> Iterator[Shown]:
    """The pictures of a clip in order, each with the seconds it is shown; told by content, not by suffix.

    Args:
        path: a media file, an image, or a folder of images.
        fps: the rate of sources that know none: folders of images and arrays.
        told: filled with what is found out beside the pictures, while they are taken.

    Raises:
        ValueError: why this is no clip.
    """
    if path.is_dir():
        return (Shown(1 / fps, partial(_picture, file, told)) for file in frame_files(path))
    if path.suffix.lower() in FRAME_SUFFIXES:
        return iter([Shown(1 / fps, partial(_picture, path, told))])
    with path.open("rb") as stream:
        start = stream.read(16)
    if not start:
        raise ValueError("the file is empty")
    if start[:4] == b"PK\x03\x04":
        return _array(path, fps)
    if start[:4] == b"GIF8":
        check_size(*struct.unpack("<HH", start[6:10]))
        return map(_believed, _gif(path, told))
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        see_one_webp(path)
        return map(_believed, _animation(path, told))
    return film(path, told)


def resampled(pictures: Iterator[Shown], fps: float) -> Iterator[Shown]:
    """What is seen at the middle of each frame of a film with `fps` frames a second.

    Middles, because the times of media are rounded: a film at the same rate keeps every frame. A picture that begins
    at a middle is seen there, at 20, 40 and 60 pictures a second for 10 too: the steps between pictures are even.
    """
    end, count = 0.0, 0
    for picture in pictures:
        if not 0 <= picture.seconds <= LONGEST_PICTURE:
            raise ValueError(f"a frame is shown for {picture.seconds:g} s; at most {LONGEST_PICTURE:g} s are believed")
        end += picture.seconds
        while (count + 0.5) / fps < end - ROUNDED:
            yield picture
            count += 1


def shown_size(picture: Shown) -> tuple[float, float]:
    """Width and height of a picture as a player shows it, in units of a pixel's height."""
    image = picture.pixels()
    return image.width * picture.aspect, float(image.height)


def fitted(picture: Shown, spec: ClipSpec, fit: str) -> NDArray[np.uint8]:
    """A picture as a frame of a clip: uint8 `(h, w, 3)`. `crop` cuts what is too long, `letterbox` adds black bars.

    A picture of the right size keeps every pixel; others are resampled once, with a bicubic filter that covers all
    pixels, to the shape in which a player shows them.
    """
    image, aspect = picture.pixels(), picture.aspect
    width, height = image.width * aspect, float(image.height)  # as shown, in units of a pixel's height
    if fit == "crop":
        kept = min(width / spec.width, height / spec.height)  # of the picture's pixels, for one of the frame's
        left, top = (width - kept * spec.width) / 2, (height - kept * spec.height) / 2
        if aspect == 1:
            left, top = int(left), int(top)
        box = (left / aspect, top, (left + kept * spec.width) / aspect, top + kept * spec.height)
        return np.asarray(image.resize((spec.width, spec.height), Image.Resampling.BICUBIC, box), np.uint8)
    scale = min(spec.width / width, spec.height / height)
    inner = image.resize((max(1, round(width * scale)), max(1, round(height * scale))), Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (spec.width, spec.height))
    canvas.paste(inner, ((spec.width - inner.width) // 2, (spec.height - inner.height) // 2))
    return np.asarray(canvas, np.uint8)


def _rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB: what is transparent lies on white, and 16 bits a channel become 8."""
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    return on_white(image) if image.has_transparency_data else image.convert("RGB")


def _check_range(image: Image.Image) -> None:
    """See that the range of an image's numbers is known, and what of them is black.

    Raises:
        ValueError: it is not.
    """
    tags: Any = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    if image.mode == "F" or (image.mode == "I" and image.format not in SIXTEEN) or 2 in tags.get(SAMPLE_FORMAT, ()):
        raise ValueError(
            "its pixels are floats, signed or of 32 bits, without a known range: convert it to 8 or 16 bits"
        )
    if image.mode.startswith("I;16") and (tags.get(BITS, (16,)) != (16,) or tags.get(PHOTOMETRIC, 1) != 1):
        raise ValueError("its pixels are of 12 bits, or 0 is white in it: convert it to 8 or 16 bits")


def _picture(path: Path, told: Told) -> Image.Image:
    """One image of a folder of frames, the way up it was taken."""
    try:
        with Image.open(path) as image:
            check_size(*image.size)
            if image.format == "PNG":
                image.verify()  # its checksums, which are not looked at otherwise
            else:
                told.unchecked(str(image.format))
        with Image.open(path) as image:
            if (count := getattr(image, "n_frames", 1)) > 1:
                raise ValueError(f"it holds {count} pictures and not one")
            _check_range(image)
            return _rgb(ImageOps.exif_transpose(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"frame {printable(path.name)} cannot be read: {_first_line(error)}") from error


def _animation(path: Path, told: Told) -> Iterator[Shown]:
    with Image.open(path) as image:
        told.unchecked(str(image.format))
        check_size(*image.size)
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            check_size(*image.size)  # a frame may be larger than the film says it is
            image.load()
            yield Shown(float(image.info.get("duration") or 0) / 1000, partial(_rgb, image.copy()))


def _gif(path: Path, told: Told) -> Iterator[Shown]:
    """A GIF as a film. To FFmpeg all pictures of which nothing is said are one: then by Pillow, which lays some wrong
    behind one that is taken away."""
    controls = gif_controls(path)
    if None not in controls[1:]:
        return film(path, told)
    if any((control or 0) > 1 for control in controls):
        raise ValueError("some of its pictures are taken away, and of others nothing is said: convert it")
    return _animation(path, told)


def _believed(picture: Shown) -> Shown:
    return picture if picture.seconds > HASTY else replace(picture, seconds=USUAL)


def _array(path: Path, fps: float) -> Iterator[Shown]:
    """An .npz with `frames`, uint8 `(t, h, w, 3)`, and maybe `fps`; sizes are checked before anything is unpacked."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if "frames.npy" not in names:
            raise ValueError("the archive holds no array `frames`")
        if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in archive.infolist()):
            raise ValueError("the archive is packed in a way that numpy does not use: write it with numpy.savez")
        rate = _rate(archive) if "fps.npy" in names else fps
        with archive.open("frames.npy") as stream:
            shape, fortran, dtype = _header(stream)
            if len(shape) == 5:
                raise ValueError(
                    f"it holds an array of {shape[0]} clips, as 't2v generate' writes, and one clip is (t, h, w, 3): "
                    "'t2v export' with --kind npz writes a file for each"
                )
            if dtype != np.uint8 or fortran or len(shape) != 4 or shape[3] != 3:
                raise ValueError(f"its frames are {dtype} of shape {shape}; allowed is uint8 (t, h, w, 3)")
            check_size(shape[2], shape[1])
            for _ in range(shape[0]):
                frame = stream.read(shape[1] * shape[2] * 3)
                if len(frame) < shape[1] * shape[2] * 3:
                    raise ValueError("its frames are cut short")
                pixels = np.frombuffer(frame, np.uint8).reshape(shape[1:])
                yield Shown(1 / rate, partial(Image.fromarray, pixels))


def _rate(archive: zipfile.ZipFile) -> float:
    with archive.open("fps.npy") as stream:
        shape, _, dtype = _header(stream)
        if dtype.kind not in "iuf" or math.prod(shape) != 1:
            raise ValueError(f"its fps is {dtype} of shape {shape}; allowed is one number")
        return float(np.frombuffer(stream.read(dtype.itemsize), dtype)[0])


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type of an .npy: read are at most 64 KiB, the longest header of a file in format 1.0."""
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError("it holds an array in a format that numpy does not use for numbers: write it with numpy.savez")
    return np.lib.format.read_array_header_1_0(stream)


def _first_line(error: BaseException) -> str:
    return str(error).split("\n")[0] or type(error).__name__
