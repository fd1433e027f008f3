"""Films, by PyAV: pictures in the order of their times, in the shape and the way up they are shown, damage told.

What is done with each peculiarity of films, and why, is listed in `docs/own-clips.md`.
"""

import heapq
import math
import re
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.sidedata.sidedata import Type
from av.stream import Disposition
from av.video.frame import PictureType
from av.video.reformatter import ColorPrimaries, ColorTrc
from PIL import Image

from t2v_models.shards.colour import UNSPECIFIED, rgb, tell_colours
from t2v_models.shards.damage import Signs
from t2v_models.shards.picture import MOST_PIXELS, Shown, Told, check_size
from t2v_models.shards.said import fault_of, listening, sign_in
from t2v_models.shards.structure import is_checked, is_piped
from t2v_models.shards.unread import is_profile_5

DEEPEST = 16
"""Pictures by which a coder may change their order: H.264 and HEVC allow no more."""
USUAL_STEP = 0.04
"""Seconds, where a film says neither times nor a rate."""
LEAST_MISSED = 0.05
"""Seconds at a film's end: less may come of rounding where pictures are shown for a millisecond."""
UNTIMED = "matroska,webm"
"""The container that tells how long the film is, but not how long each picture is shown."""
OF_ALL = (UNTIMED, "asf")
"""Containers in which the length of pictures is that of the whole film, of which sound may be longer."""
CLOCKED = ("mpeg", "mpegts")
"""Containers that are joined by laying one behind the other, and times of decoding that never step back."""
DOLBY_VISION = ("dvh1", "dvhe", "dva1", "dvav", "dav1")
"""What mp4 calls films whose colours only Dolby Vision's own data can tell; others can be shown without."""
NO_DOLBY_VISION = "its colours are Dolby Vision's own (profile 5), which cannot be read here: convert it"
NO_ALPHA = "its transparency cannot be read: no decoder of {} here does; convert it"
WHOLE = (PictureType.NONE, PictureType.I)
"""Pictures that need no other, as far as decoders tell; an index that is out of step calls others key frames."""
STRICT = {"err_detect": "crccheck+bitstream+buffer", "strict": "1"}
"""Of decoders: look for all that is wrong. The second lets dav1d check how each part of a picture ends."""
MILD = STRICT | {"err_detect": "crccheck+buffer"}
"""Of coders that allow zeros before each part, ISO/IEC 13818-2 section 5.2.3: the strictest look calls them damage."""
SANE = STRICT | {"err_detect": "crccheck+bitstream+buffer+aggressive"}
"""Of H.264: the codes of a picture without arithmetic coding must end where its data ends (ITU-T H.264, 7.3.2.8)."""
OF_DECODER = {"mpeg1video": MILD, "mpeg2video": MILD, "h264": SANE}
BETTER = {"vp9": "libvpx-vp9", "vp8": "libvpx"}
"""Decoders by the coders' makers, which read transparency and, of VP9, notice nearly every wrong bit."""
COLOURS = {"color_trc": ColorTrc.UNSPECIFIED, "color_primaries": ColorPrimaries.UNSPECIFIED, "colorspace": UNSPECIFIED}
"""What is told of colours, and what stands there where nothing is told."""


Type._missing_ = classmethod(lambda kinds, number: kinds.VIDEO_HINT)  # type: ignore[assignment]
"""PyAV refuses all that lies beside a picture where it knows no name for one part, as Exif and spatial films have."""


_Read = tuple[Any, str | None]
"""A packet, and what its demuxer says is wrong."""


@dataclass
class _Frame:
    """A decoded frame and what belongs to it."""

    frame: av.VideoFrame
    damage: str | None
    """Why it may be ruined, if so."""
    gap: str | None
    """Why frames before it may be missing, if so."""
    done: float
    """Share of the file that is read."""
    time: float = 0.0
    """Seconds."""


def film(path: Path, told: Told) -> Iterator[Shown]:
    """The pictures of a film.

    Raises:
        ValueError: it has no pictures, or their times are in no order.
    """
    with _opened(path) as container:
        stream = next((s for s in container.streams.video if not s.disposition & Disposition.attached_pic), None)
        if stream is None:
            raise ValueError("it has no video")
        if stream.codec_context is None:
            raise ValueError("its video is in a format that cannot be decoded here: convert it to mp4")
        if stream.codec_context.codec_tag in DOLBY_VISION or is_profile_5(path, container.format.name):
            raise ValueError(NO_DOLBY_VISION)
        if stream.codec_context.width:  # which may show only when pictures are decoded
            check_size(stream.codec_context.width, stream.codec_context.height)
        step = float(1 / stream.average_rate) if stream.average_rate else USUAL_STEP
        colours = {name: getattr(stream.codec_context, name) for name in COLOURS}  # decoders may write over them
        decoder, turns = _decoder(path, stream)
        signs = Signs(path, container, stream)
        packets = _read(container.demux(stream))
        if container.format.name in CLOCKED:
            packets = _on_one_clock(packets, step)
        decoded = _decoded(_filled(packets, signs), decoder, signs, path.stat().st_size, told)
        frames = _in_order(_timed(decoded, step, signs))
        before = next(frames, None)
        if before is None:
            raise ValueError(told.lost or "it has no frames")
        if signs.layered and not _has_alpha(before.frame.format):
            raise ValueError(NO_ALPHA.format("hevc"))
        if not (signs.checked or is_checked(path, container.format.name)):
            told.unchecked(stream.codec_context.codec.canonical_name)
        start, shortest = before.time, math.inf
        told.before = None if container.start_time is None else start - container.start_time / av.time_base
        before.damage = before.damage or before.gap  # a picture that should have come first is missing
        show = partial(_shown, stream, colours, turns, told)
        for frame in frames:
            seconds = frame.time - before.time
            shortest = min(shortest, seconds or shortest)
            yield show(before, seconds, frame.gap)
            before = frame
        step = shortest if (signs.guessed or not stream.average_rate) and shortest < math.inf else step
        last = max(signs.length(before.frame) or step, signs.held - before.time)
        promised = 0.0 if is_piped(path) else _promised(container, stream)
        missing = promised - max(before.time, before.time - start) - last
        if missing > 0 and container.format.name == UNTIMED and not told.lost:
            last += missing
        elif missing > max(1.5 * step, LEAST_MISSED):
            told.lost = f"it breaks off {missing:.1f} s before its end" + (f" ({told.lost})" if told.lost else "")
        yield show(before, last, None)


def _decoder(path: Path, stream: Any) -> tuple[Any, list[Image.Transpose] | None]:
    """The decoder, and the turns of its pictures if it does not know them."""
    decoder, turns = stream.codec_context, None
    name, deep = BETTER.get(decoder.codec.name), decoder.format is not None and decoder.format.components[0].bits > 8
    transparent = stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
    if not deep and (name == "libvpx-vp9" or (name and transparent)):  # PyAV's libvpx knows 8 bits only
        with suppress(UnknownCodecError):
            decoder = av.CodecContext.create(name, "r")
            for tag in (*COLOURS, "color_range"):
                setattr(decoder, tag, getattr(stream.codec_context, tag))
            with _opened(path) as again, suppress(av.FFmpegError):
                first = next(again.decode(again.streams[stream.index]), None)
                turns = _turns(first) if first else None
    if transparent and not _has_alpha(decoder.format) and decoder is stream.codec_context:
        raise ValueError(NO_ALPHA.format(decoder.name))
    decoder.thread_count = 1  # what it says is then heard in this thread, beside the packet it is about
    decoder.copy_opaque = True
    decoder.options = OF_DECODER.get(decoder.codec.name, STRICT)
    return decoder, turns


def _has_alpha(pixels: Any) -> bool:
    return pixels is not None and any(part.is_alpha for part in pixels.components)


def _decoded(packets: Iterator[_Read], decoder: Any, signs: Signs, size: int, told: Told) -> Iterator[_Frame]:
    """Every frame the decoder gives, in its order. Damage lasts until a key frame that was read after it, and not right
    behind it: what destroys bytes may reach into the next packet."""
    damage, since, gap, key, done = None, -1, None, -1, 0.0
    read = pairwise(chain(packets, [(None, None)]))  # each packet with the one behind it
    for number, ((packet, fault), (after, _)) in enumerate(read):
        frames: list[Any] = []
        with listening() as said:
            try:
                if packet is not None:
                    packet.opaque = number
                    if packet.size:
                        fault = fault or ("a packet is marked as damaged" if packet.is_corrupt else signs.of(packet))
                        if after is None or not after.size:
                            fault = fault or signs.end
                        key = number if packet.is_keyframe and signs.keyed else key
                frames = decoder.decode(packet)
            except av.EOFError:
                pass  # all was given after the last packet
            except av.FFmpegError as error:
                fault = fault or fault_of(error)
        fault = fault or sign_in(said, signs.expected)
        if packet is not None and not packet.size:
            fault = fault or signs.left()
            told.lost = fault or gap
        if fault:
            damage = gap = fault
            since = number
        for frame in frames:
            own = number if frame.opaque is None else frame.opaque
            if frame.is_corrupt:
                damage, since = fault or "a picture could not be decoded whole", max(since, own)
            elif (frame.key_frame or own == key) and frame.pict_type in WHOLE and own > since + 1:
                damage = None
            yield _Frame(frame, damage, gap, done)
            gap = None
        if packet is None:
            told.lost = told.lost or gap
            return
        done = max(done, (packet.pos or 0) / size)


def _read(packets: Iterator[Any]) -> Iterator[_Read]:
    """Every packet with what its demuxer says is wrong; None is the last."""
    packet: Any = True
    while packet is not None:
        fault = None
        with listening() as said:
            try:
                packet = next(packets, None)
            except av.FFmpegError as error:
                packet, fault = None, fault_of(error)
        yield packet, fault or sign_in(said)


def _on_one_clock(packets: Iterator[_Read], step: float) -> Iterator[_Read]:
    """The same.

    Raises:
        ValueError: the order of decoding steps back: films were joined whose times lie over one another.
    """
    latest = -math.inf
    for packet, fault in packets:
        if packet is not None and packet.dts is not None:
            time = float(packet.dts * packet.time_base)
            if time < latest - step / 2:
                raise ValueError(f"its clock starts again, at {time:.3f} s after {latest:.3f} s: join its parts anew")
            latest = time
        yield packet, fault


def _filled(packets: Iterator[_Read], signs: Signs) -> Iterator[_Read]:
    """Those that are not empty, and the last, which ends the film. Theora's empty ones hold the picture before them."""
    fault = None
    for (packet, new), (after, _) in pairwise(chain(packets, [(None, None)])):
        fault = fault or new
        if packet is None or packet.size or after is None:
            yield packet, fault
            fault = None
        else:
            signs.hold(packet)


def _timed(frames: Iterator[_Frame], step: float, signs: Signs) -> Iterator[_Frame]:
    """Each frame with its time; one without follows the latest at the usual rate, as seen so far where it is guessed.

    Raises:
        ValueError: a time is so much earlier than one before it that it cannot come from the order of coding.
    """
    latest, seen = -step, math.inf
    for frame in frames:
        check_size(frame.frame.width, frame.frame.height)
        told = signs.time(frame.frame)
        frame.time = latest + (seen if signs.guessed and seen < math.inf else step) if told is None else told
        if latest - frame.time > 2 * DEEPEST * step:
            raise ValueError(f"its times are in no order: {frame.time:.3f} s comes after {latest:.3f} s; convert it")
        latest, seen = max(latest, frame.time), min(seen, frame.time - latest)
        yield frame


def _in_order(frames: Iterator[_Frame]) -> Iterator[_Frame]:
    """The order is the decoder's, the times are sorted: some containers give times in the order of coding.

    Raises:
        ValueError: times are mixed up more widely than any coder mixes frames.
    """
    held: deque[_Frame] = deque()
    times: list[float] = []
    before = -np.inf

    def first() -> _Frame:
        nonlocal before
        frame = held.popleft()
        frame.time = heapq.heappop(times)
        if frame.time < before:
            raise ValueError(f"its times are in no order: {frame.time:.3f} s comes after {before:.3f} s; convert it")
        before = frame.time
        return frame

    for frame in frames:
        held.append(frame)
        heapq.heappush(times, frame.time)
        if len(held) > max(2, min(DEEPEST, MOST_PIXELS // (frame.frame.width * frame.frame.height))):
            yield first()
    while held:
        yield first()


def _shown(
    stream: Any, colours: dict[str, int], turns: list[Image.Transpose] | None, told: Told, frame: _Frame,
    seconds: float, gap: str | None,
) -> Shown:  # fmt: skip
    beside: Any = frame.frame.side_data
    if frame.frame.color_trc == ColorTrc.UNSPECIFIED and beside.get(Type.DOVI_RPU_BUFFER) is not None:
        raise ValueError(NO_DOLBY_VISION)
    for name, untold in COLOURS.items():
        if getattr(frame.frame, name) == untold:
            setattr(frame.frame, name, colours[name])
    tell_colours(frame.frame, told)
    if frame.frame.interlaced_frame:
        told.note("it is marked as interlaced: where what moves has combs, deinterlace it first")
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    aspect = float(ratio) if ratio and stream.codec_context.name != "gif" else 1.0
    turns = _turns(frame.frame) if turns is None else turns
    if Image.Transpose.TRANSPOSE in turns:
        aspect = 1 / aspect
    return Shown(seconds, partial(_pixels, frame.frame, turns), aspect, frame.damage or gap, frame.done)


def _pixels(frame: av.VideoFrame, turns: list[Image.Transpose]) -> Image.Image:
    image = rgb(frame)
    for turn in turns:
        image = image.transpose(turn)
    return image


def _turns(frame: av.VideoFrame) -> list[Image.Transpose]:
    """What the display matrix asks for, to the next right angle: x' = a x + c y and y' = b x + d y."""
    beside: Any = frame.side_data
    matrix = beside.get(Type.DISPLAYMATRIX)
    if matrix is None:
        return []
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        turns, across, down = [], a, d
    else:
        turns, across, down = [Image.Transpose.TRANSPOSE], c, b
    turns += [Image.Transpose.FLIP_LEFT_RIGHT] if across < 0 else []
    return turns + ([Image.Transpose.FLIP_TOP_BOTTOM] if down < 0 else [])


def _promised(container: Any, stream: Any) -> float:
    """How long the film is, by what its file says of its pictures: seconds; 0 if it says nothing."""
    if parts := re.fullmatch(r"(\d+):(\d+):([\d.]+)", stream.metadata.get("DURATION", "")):  # Matroska's, of one track
        return 3600 * int(parts[1]) + 60 * int(parts[2]) + float(parts[3])
    alone = len(container.streams) == 1
    if stream.duration is not None and (alone or container.format.name not in OF_ALL):
        return float(stream.duration * stream.time_base)
    if container.duration is not None and alone:
        return float(container.duration / av.time_base)
    return 0.0


def _opened(path: Path) -> Any:
    with av.logging.Capture():  # what is wrong with a header shows in the pictures, or does not matter
        return av.open(str(path), metadata_errors="replace")
