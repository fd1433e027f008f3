"""Small films by PyAV, with the times, shapes and coders that people's films have."""

from collections.abc import Sequence
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.codec import Codec, UnknownCodecError


def bar(place: float, height: int = 64, width: int = 64) -> np.ndarray:
    """A bright bar on a dark background, `place` 0–1 of the way to the right."""
    frame = np.full((height, width, 3), 20, np.uint8)
    x = round(place * (width - 8))
    frame[:, x : x + 8] = 230
    return frame


def place(frame: np.ndarray) -> float:
    """Where the bar is."""
    light = frame.astype(float).sum((0, 2)) - 3 * 40 * len(frame)
    return float((light.clip(0) @ np.arange(len(light))) / light.clip(0).sum() - 3.5) / (len(light) - 8)


OFTEN = ("yuv420p", "yuvj420p", "yuv422p", "yuv444p", "rgb24", "bgr0", "bgra", "rgba", "gray")


def encoders() -> dict[str, str]:
    """Every coder of films that PyAV has here by software, and a format of pixels that it takes."""
    found = {}
    for name in av.codecs_available:
        with suppress(UnknownCodecError):
            codec = Codec(name, "w")
            formats = [pixels.name for pixels in codec.video_formats or []]
            if codec.type == "video" and formats and not name.endswith(("_qsv", "_nvenc", "_amf", "_v4l2m2m")):
                found[codec.name] = next((pixels for pixels in OFTEN if pixels in formats), formats[0])
    return found


def write(
    path: Path, frames: Sequence[np.ndarray], codec: str = "libx264", pixels: str = "yuv420p", *, rate: int = 10,
    times: Sequence[int] | None = None, codings: Sequence[int] | None = None, durations: Sequence[int] | None = None,
    aspect: Fraction | None = None, reorder: bool = False, **options: str,
) -> Path:  # fmt: skip
    """A film by PyAV.

    Args:
        times: of each packet's picture; `codings` of its decoding, `durations` how long it is shown: all in 1/rate s.
        reorder: whether pictures may be coded in another order than they are shown; without times only.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if codec == "libx264":
        options = {"crf": "5", **({"bf": "2"} if reorder else {"bf": "0", "tune": "zerolatency"})} | options
    if codec == "libx265":
        options = {"x265-params": "log-level=error"} | options
    if codec in ("mpeg4", "mpeg2video") and reorder:
        options = {"bf": "2"} | options
    first = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}  # what is told of a film comes first
    with av.open(str(path), "w", options=first) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixels
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        kind = {3: "rgb24", 4: "rgba"}[frames[0].shape[2]]
        packets = [p for f in frames for p in stream.encode(av.VideoFrame.from_ndarray(f, format=kind))]
        for i, packet in enumerate([*packets, *stream.encode(None)]):
            unit = 1 / (rate * packet.time_base)
            if times:
                packet.pts = int(times[i] * unit)
                packet.dts = int((codings or times)[i] * unit)
            if durations:
                packet.duration = int(durations[i] * unit)
            container.mux(packet)
    return path


def of_jpegs(path: Path, jpeg: bytes, size: tuple[int, int]) -> Path:
    """A film of three pictures as a camera makes them; `size` is width and height."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p"
        for i in range(3):
            packet = av.Packet(jpeg)
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, i, i, Fraction(1, 10)
            container.mux(packet)
    return path
