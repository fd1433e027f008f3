"""Clips as files people can look at, and back: MP4, animated WebP and GIF, a contact sheet, NumPy archives.

Frames are uint8 RGB of shape `(t, h, w, 3)`; several clips of one size are `(n, t, h, w, 3)`. WebP and npz keep every
pixel; MP4 rounds colours and halves their resolution; GIF has 256 colours a frame and whole hundredths of a second.
"""

import io
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from t2v_models.config import LabError, near
from t2v_models.files import write

Frames = NDArray[np.uint8]

INK, PALE, PAPER = (32, 33, 36), (214, 214, 210), (255, 255, 255)
MARKS = {"right": (24, 128, 72), "partly": (190, 118, 0), "wrong": (196, 48, 43)}
"""Colours of what is said of a clip: all is right, the motion is, or not even that."""
SEAM = (38, 98, 200)
"""Of the line between the last frame before a scene and its first."""
SHEET_CLIP_HEIGHT = 96
"""px: clips lower than this are enlarged by a whole factor on a contact sheet."""
SHEET_FRAMES = 10
"""Most frames of one clip on a contact sheet; longer clips show this many, evenly spaced, first and last among them."""

IMAGE_DESCRIPTION = 0x010E
"""The tag of Exif."""

H264 = {"crf": "10", "preset": "veryfast", "x264-params": "asm=0:threads=1"}
"""No assembly, and one thread: with x264's AVX-512 code some clips differed each time (`docs/log/2026-11.md`).
`veryfast` takes two thirds of the time of `medium` for clips of our worlds, at equal errors and 2 % more bytes."""


def enlarge(frames: Frames, scale: int) -> Frames:
    """Repeat every pixel `scale` times in both directions; the axes before `(h, w, 3)` are kept."""
    assert scale >= 1, scale
    return frames.repeat(scale, axis=-3).repeat(scale, axis=-2)


@contextmanager
def filming(
    path: Path, size: tuple[int, int], fps: float, scale: int = 1, comment: str = ""
) -> Iterator[Callable[[Frames], None]]:
    """A function that adds frames `(t, h, w, 3)` of one height and width to the film, which is whole after the block.

    H.264 in 4:2:0 with its index in front: what every browser plays. Odd sides grow by repeating the last pixel.
    """
    height, width = (scale * side + scale * side % 2 for side in size)
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        container.metadata.update({"comment": comment} if comment else {})
        stream = container.add_stream("libx264", rate=_rate(fps), options=H264)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        codec = stream.codec_context
        codec.colorspace, codec.color_range = Colorspace.ITU709, ColorRange.MPEG
        codec.color_primaries, codec.color_trc = ColorPrimaries.BT709, ColorTrc.BT709

        def add(frames: Frames) -> None:
            for frame in enlarge(frames, scale):
                room = ((0, height - frame.shape[0]), (0, width - frame.shape[1]), (0, 0))
                picture = av.VideoFrame.from_ndarray(np.pad(frame, room, mode="edge"), format="rgb24")
                picture = picture.reformat(
                    format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
                )
                container.mux(stream.encode(picture))

        yield add
        container.mux(stream.encode(None))


def to_mp4(frames: Frames, fps: float, scale: int = 1, comment: str = "") -> bytes:
    """A film of one clip, as `filming` makes it."""
    with tempfile.TemporaryDirectory() as folder:  # moving the index to the front reopens the file by its name
        path = Path(folder) / "clip.mp4"
        with filming(path, frames.shape[1:3], fps, scale, comment) as add:
            add(frames)
        return path.read_bytes()


def save_films(path: Path, parts: Iterable[Frames], count: int, fps: float, comment: str = "") -> list[Path]:
    """Write `count` films of parts `(count, t, h, w, 3)` one after the other, of which no more than one is kept.

    Files are named as by `save_clips`.

    Raises:
        LabError: a file cannot be written.
    """
    paths = numbered(path, count)
    with tempfile.TemporaryDirectory() as folder:
        films = [Path(folder, one.name) for one in paths]
        with ExitStack() as filmed:
            adds: list[Callable[[Frames], None]] = []
            for part in parts:
                adds = adds or [
                    filmed.enter_context(filming(film, part.shape[2:4], fps, comment=comment)) for film in films
                ]
                for add, frames in zip(adds, part, strict=True):
                    add(frames)
        return [write(one, film.read_bytes()) for one, film in zip(paths, films, strict=True)]


def to_webp(frames: Frames, fps: float, scale: int = 1, comment: str = "") -> bytes:
    """Animated, lossless, plays for ever. Equal neighbours are stored once and shown longer."""
    told = Image.Exif()
    told[IMAGE_DESCRIPTION] = comment
    return _animation(frames, fps, scale, "WEBP", lossless=True, exact=True, method=2, exif=told if comment else b"")


def to_gif(frames: Frames, fps: float, scale: int = 1, comment: str = "") -> bytes:
    """Animated, 256 colours a frame, plays for ever. Equal neighbours are stored once and shown longer."""
    return _animation(frames, fps, scale, "GIF", comment=comment.encode())


def strip(frames: Frames, scale: int = 1, seam: int | None = None) -> Frames:
    """The frames of one clip side by side, a thin line between two: `(h scale, t w scale + 2 (t - 1), 3)`.

    Before frame number `seam` the line is `SEAM` and wider.
    """
    tiles = enlarge(frames, scale)
    lines = [np.full((tiles.shape[1], 2, 3), PALE, np.uint8)] * len(tiles)
    if seam is not None:
        lines[seam] = np.full((tiles.shape[1], 6, 3), SEAM, np.uint8)
    return np.concatenate([part for pair in zip(lines, tiles, strict=True) for part in pair][1:], axis=1)


def contact_sheet(
    clips: Sequence[Frames],
    captions: Sequence[str],
    marks: Sequence[str | None] | None = None,
    before: Sequence[Frames | None] | None = None,
) -> bytes:
    """A PNG with one clip a row: caption at the left, then its frames; `marks` are `MARKS` or nothing.

    Where there is a frame `before` a clip, `(1, h, w, 3)`, it stands in front of it, behind a line that marks the seam.
    """
    before = [None] * len(clips) if before is None else before
    marks = [None] * len(clips) if marks is None else marks
    assert 0 < len(clips) == len(captions) == len(marks), (len(clips), len(captions), len(marks))
    font, small = ImageFont.load_default(16), ImageFont.load_default(13)
    rows = [_shown(clip, ahead) for clip, ahead in zip(clips, before, strict=True)]
    margin, gap, bar = 20, 12, 5
    text_width = int(max(font.getlength(line) for caption in captions for line in caption.split("\n")))
    left = margin + text_width + 2 * gap + bar
    width = left + max(row.shape[1] for row in rows) + margin
    height = 2 * margin + sum(row.shape[0] for row in rows) + gap * (len(rows) - 1)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    top = margin
    for row, caption, mark in zip(rows, captions, marks, strict=True):
        middle, bottom = top + row.shape[0] // 2, top + row.shape[0]
        draw.multiline_text((margin, middle), caption, INK, font, anchor="lm")
        colour = MARKS[mark] if mark else PALE
        draw.rectangle((left - gap - bar, top, left - gap - 1, bottom - 1), colour)
        if mark:
            draw.text((left - gap - bar - gap // 2, bottom), mark, colour, small, anchor="rd")
        sheet.paste(Image.fromarray(row), (left, top))
        draw.rectangle((left - 1, top - 1, left + row.shape[1], bottom), outline=PALE)
        top = bottom + gap
    return _png(sheet)


def story_sheet(scenes: Sequence[Frames], captions: Sequence[str], seeds: Sequence[Sequence[int]]) -> bytes:
    """A PNG of stories, scene under scene: each `(b, t, h, w, 3)`, of b seeds, behind the last frame before it."""
    rows, lines, before = [], [], []
    for story in range(len(scenes[0])):
        for number, (frames, caption) in enumerate(zip(scenes, captions, strict=True)):
            rows.append(frames[story])
            lines.append(f"{number + 1}. {caption}\nseed {seeds[number][story]}")
            before.append(scenes[number - 1][story][-1:] if number else None)
    return contact_sheet(rows, lines, before=before)


def decode(source: Path | bytes, fps: float | None = None) -> Frames:
    """The frames of an MP4, WebP or GIF. With `fps`, a frame that stands for several equal ones is repeated."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    if data[4:8] == b"ftyp":
        with av.open(io.BytesIO(data), "r") as container:
            return np.stack([_pixels(frame) for frame in container.decode(video=0)])
    frames: list[Frames] = []
    with Image.open(io.BytesIO(data)) as image:
        for i in range(getattr(image, "n_frames", 1)):
            image.seek(i)
            picture = np.asarray(image.convert("RGB"))
            times = 1 if fps is None else max(1, round(image.info.get("duration", 0) / 1000 * fps))
            frames += [picture] * times
    return np.stack(frames)


def save_clips(
    path: Path, frames: Frames, prompts: Sequence[str], seeds: Sequence[int], fps: float,
    understood: Sequence[str] | None = None,
) -> list[Path]:  # fmt: skip
    """Write clips `(n, t, h, w, 3)` in the format the suffix names and return the files written.

    `.npz` and `.png` hold all clips in one file. `.mp4`, `.gif` and `.webp` hold one clip: several clips become
    `name-000.mp4`, `name-001.mp4` and so on. Where prompts were `understood` in other words, an archive has these
    under that name, a sheet beside the prompts, and a film or an animation has both as its comment.

    Raises:
        LabError: when the suffix is none of these, or the file cannot be written.
    """
    assert frames.ndim == 5, frames.shape
    assert 0 < len(frames) == len(prompts) == len(seeds), (len(frames), len(prompts), len(seeds))
    suffix, meant = path.suffix.lower(), list(understood or prompts)
    comments = [f"{p}, understood as {m}" if p != m else "" for p, m in zip(prompts, meant, strict=True)]
    if suffix == ".npz":
        buffer, other = io.BytesIO(), {"understood": np.array(meant, np.str_)} if any(comments) else {}
        named = {"frames": frames, "prompts": np.array(prompts, np.str_), "seeds": np.array(seeds, np.int64)} | other
        np.savez_compressed(buffer, allow_pickle=False, **named)
        return [write(path, buffer.getvalue())]
    if suffix == ".png":
        captions = [
            "\n".join(
                [prompt, *([f"understood as {m}"] if m != prompt else []), *([f"seed {seed}"] if seed >= 0 else [])]
            )
            for prompt, m, seed in zip(prompts, meant, seeds, strict=True)
        ]
        return [write(path, contact_sheet(list(frames), captions))]
    encoders = {".mp4": to_mp4, ".gif": to_gif, ".webp": to_webp}
    check_suffix(path)
    return [
        write(p, encoders[suffix](clip, fps, comment=comment))
        for p, clip, comment in zip(numbered(path, len(frames)), frames, comments, strict=True)
    ]


def numbered(path: Path, count: int) -> list[Path]:
    """Files of so many clips: `name.mp4` of one alone, or `name-000.mp4`, `name-001.mp4`, …"""
    return [path] if count == 1 else [path.with_stem(f"{path.stem}-{i:03d}") for i in range(count)]


SUFFIXES = (".npz", ".mp4", ".gif", ".webp", ".png")


def check_suffix(path: Path) -> None:
    """Refuse a file name that `save_clips` cannot write, before any clip is made.

    Raises:
        LabError: naming the suffix found and those allowed.
    """
    if path.suffix.lower() not in SUFFIXES:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise LabError(f"cannot save clips as {str(path)!r}: it has {found}; {near(path.suffix, SUFFIXES)}")


def load_npz(path: Path) -> tuple[Frames, list[str], list[int]]:
    """Frames `(n, t, h, w, 3)`, prompts and seeds of an archive written by `save_clips`, or by anybody else.

    An archive without seeds gets 0, 1, 2, …

    Raises:
        LabError: when the file is missing, damaged, or does not hold clips.
    """
    if not path.is_file():
        raise LabError(f"no clips at {str(path)!r}: give an .npz written by `t2v generate`")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            missing = [name for name in ("frames", "prompts") if name not in archive]
            if missing:
                raise LabError(f"{str(path)!r} lacks {', '.join(missing)}: give frames, prompts and, if known, seeds")
            frames, prompts = archive["frames"], archive["prompts"]
            seeds = archive["seeds"] if "seeds" in archive else np.arange(prompts.size)
    except (zipfile.BadZipFile, zlib.error, ValueError, EOFError, TypeError) as error:
        raise LabError(f"{str(path)!r} is not a whole .npz archive ({error}): write it again") from error
    if frames.dtype != np.uint8 or frames.ndim != 5 or frames.shape[-1] != 3:
        found = f"{frames.dtype} frames of shape {frames.shape}"
        raise LabError(f"{str(path)!r} holds {found}; allowed are uint8 frames (n, t, h, w, 3): convert them first")
    for name, values, kind, allowed in (("prompts", prompts, "U", "strings"), ("seeds", seeds, "iu", "whole numbers")):
        if values.ndim != 1 or values.dtype.kind not in kind:
            found = f"{name} of type {values.dtype} and shape {values.shape}"
            raise LabError(f"{str(path)!r} holds {found}; allowed are {allowed}, one a clip: convert them first")
    if not 0 < len(frames) == len(prompts) == len(seeds):
        found = f"{len(frames)} clips, {len(prompts)} prompts and {len(seeds)} seeds"
        raise LabError(f"{str(path)!r} holds {found}: there must be equally many of each, and some")
    return frames, [str(p) for p in prompts], [int(s) for s in seeds]


def read_picture(path: Path) -> Frames:
    """A picture: uint8 `(h, w, 3)`, transparency on white.

    Raises:
        LabError: there is none, or it cannot be read.
    """
    try:
        with Image.open(path) as image:
            clear = image.convert("RGBA")
    except FileNotFoundError as error:
        raise LabError(f"there is no picture {path}: name a PNG, JPEG or WebP file") from error
    except OSError as error:  # Pillow's word for what it cannot read as well
        raise LabError(f"{path} cannot be read as a picture: name a PNG, JPEG or WebP file") from error
    return np.asarray(Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear).convert("RGB"))


def _animation(frames: Frames, fps: float, scale: int, form: str, **options: object) -> bytes:
    images = [Image.fromarray(frame) for frame in enlarge(frames, scale)]
    buffer = io.BytesIO()
    unit = 10 if form == "GIF" else 1  # ms; ends are rounded, not durations, so that long clips keep their pace
    ends = [unit * round(1000 * i / fps / unit) for i in range(len(images) + 1)]
    duration = [end - start for start, end in pairwise(ends)]
    images[0].save(buffer, form, save_all=True, append_images=images[1:], duration=duration, loop=0, **options)
    return buffer.getvalue()


def _pixels(frame: av.VideoFrame) -> Frames:
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def _shown(clip: Frames, before: Frames | None) -> Frames:
    shown = clip[np.linspace(0, len(clip) - 1, min(len(clip), SHEET_FRAMES)).round().astype(int)]
    scale = max(1, round(SHEET_CLIP_HEIGHT / clip.shape[1]))
    return strip(shown, scale) if before is None else strip(np.concatenate([before, shown]), scale, seam=1)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # optimising takes 0.4 s a sheet, ten times as long
    return buffer.getvalue()
