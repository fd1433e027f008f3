"""The pixels of a clip as the bytes of one member of a shard, and back. All codecs keep every pixel.

`lz4`, the default, is an .npy file in an LZ4 frame (`lz4 -d` opens it): of what pyarrow brings it packs and unpacks
fastest, at 1.4 times the bytes of zstd. `webp` is an animation that any browser plays, in three quarters of the bytes,
but 80 times slower to write and 60 times slower to read (figures in docs/log/2026-11.md). `npy` is the same array
unpacked, as other people's shards have it.
"""

import io
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from t2v_models.clips.spec import ClipSpec, Codec

FRAMES_SUFFIX: dict[Codec, str] = {"lz4": ".npy.lz4", "webp": ".webp", "npy": ".npy"}
"""What the names of members with pixels end in."""

Frames = NDArray[np.uint8]
Stored = bytes | memoryview
_LZ4 = pa.Codec("lz4")


class Packer:
    """Packs clips one after another: draw one into `frames`, uint8 `(t, h, w, 3)`, then call `packed`.

    The pixels are drawn behind their header, where they are packed: copying them there costs a quarter of it all.
    """

    def __init__(self, spec: ClipSpec, codec: Codec) -> None:
        self._spec, self._codec = spec, codec
        header = _npy_header(spec)
        self._content = np.empty(_npy_size(spec), np.uint8)
        self._content[: len(header)] = np.frombuffer(header, np.uint8)
        self.frames: Frames = self._content[len(header) :].reshape(spec.shape)

    def packed(self) -> bytes:
        """The member of the clip that is in `frames`."""
        if self._codec == "webp":
            from t2v_models.clips import media  # brings decoders of films, which processes that write LZ4 need not load

            return media.to_webp(self.frames, self._spec.fps)
        if self._codec == "npy":
            return self._content.tobytes()
        content: bytes = _LZ4.compress(self._content, asbytes=True)
        return content


def packed(pixels: Frames, spec: ClipSpec, codec: Codec) -> bytes:
    """The member of one clip of shape `(t, h, w, 3)`."""
    packer = Packer(spec, codec)
    packer.frames[:] = pixels
    return packer.packed()


def decoded(stored: Stored, spec: ClipSpec, codec: Codec) -> Frames:
    """Pixels of one member: uint8 `(t, h, w, 3)`, perhaps read-only.

    Raises:
        ValueError: the bytes are no clip of this size.
    """
    shape = spec.shape
    if codec == "npy":
        return np.asarray(_without_headers(pa.py_buffer(stored), 1, spec)[0])
    try:
        if codec == "webp":
            pixels = _animation(stored, spec.fps)
            if len(pixels) == 1:  # a clip that stands still is one picture
                pixels = pixels.repeat(spec.frames, 0)
            if pixels.shape != shape:
                raise ValueError(f"it has shape {pixels.shape}")
            return pixels
        content = _LZ4.decompress(stored, decompressed_size=_npy_size(spec))
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise ValueError(f"no clip of {shape}: {error}") from error
    return np.asarray(_without_headers(content, 1, spec)[0])


def decoded_batch(stored: Sequence[Stored], spec: ClipSpec, codec: Codec) -> Frames:
    """Pixels of n members: uint8 `(n, t, h, w, 3)`.

    LZ4 frames one after another are one stream: it is unpacked straight into the batch, faster than clip by clip. The
    headers stay in the array's memory between the clips.

    Raises:
        ValueError: some bytes are no clip of this size.
    """
    if codec != "lz4" or not stored:
        return np.array([decoded(one, spec, codec) for one in stored], np.uint8).reshape(-1, *spec.shape)
    try:
        stream = pa.CompressedInputStream(pa.BufferReader(b"".join(stored)), "lz4")
        content = stream.read_buffer(len(stored) * _npy_size(spec))  # memory that pyarrow uses again: 6 times faster
    except OSError as error:
        raise ValueError(f"no clips of {spec.shape}: {error}") from error
    return _without_headers(content, len(stored), spec)


def _animation(stored: Stored, fps: float) -> Frames:
    """The frames of a WebP: OpenCV gives the same pixels and times as Pillow, in three fifths of the time.

    Raises:
        ValueError: it is none, or it is damaged.
    """
    import cv2  # here: where a model is served it is not installed

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # of damage it would write lines of its own
    whole, film = cv2.imdecodeanimation(np.frombuffer(stored, np.uint8))
    if not whole:
        raise ValueError("it is no whole WebP")
    if len(film.frames) == 1:  # of a picture alone OpenCV does not say for how long it is shown
        from t2v_models.clips import media

        return media.decode(bytes(stored), fps)
    times = [max(1, round(milliseconds / 1000 * fps)) for milliseconds in film.durations]
    # a NumPy view with colours turned round costs half of the decoding again
    channels = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[film.frames[0].shape[2]]
    pixels = np.stack([cv2.cvtColor(frame, channels) for frame in film.frames], dtype=np.uint8)
    return pixels if max(times) == 1 else pixels.repeat(times, 0)


def _without_headers(content: pa.Buffer, clips: int, spec: ClipSpec) -> Frames:
    header = _npy_header(spec)
    if content.size != clips * _npy_size(spec):
        raise ValueError(f"no clip of {spec.shape}: {content.size:,} bytes")
    files: Frames = np.frombuffer(content, np.uint8).reshape(clips, -1)
    if (files[:, : len(header)] != np.frombuffer(header, np.uint8)).any():
        raise ValueError(f"no clip of {spec.shape}: another header")
    clips_only: Frames = files[:, len(header) :].reshape(clips, *spec.shape)
    return clips_only


@lru_cache(16)
def _npy_header(spec: ClipSpec) -> bytes:
    """What stands before the pixels in an .npy file of one clip."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": spec.shape})
    return header.getvalue()


def _npy_size(spec: ClipSpec) -> int:
    return len(_npy_header(spec)) + math.prod(spec.shape)
