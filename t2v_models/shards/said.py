"""What decoders and demuxers say while they read a film, and which of it is a sign of damage."""

import errno
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import av

HARMLESS = ("SEI type", "APP fields", "missing picture in access unit")
"""Of what decoders call errors: these concern parts beside the pictures."""
TELLING = (
    "concealing", "undecodable", "Packet corrupt", "incomplete packet", "EOI", "Extra padding", "size mismatch",
    "bits left after decoding",
)  # fmt: skip
"""Of what they call no error, and of what demuxers say: signs that pictures are damaged."""


@contextmanager
def listening() -> Iterator[Any]:
    """What decoders and demuxers say in the block."""
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.INFO)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as said:
            yield said
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)


def fault_of(error: av.FFmpegError) -> str | None:
    """What an error says.

    Raises:
        MemoryError: it is that memory ran out.
    """
    if error.errno == errno.ENOMEM:
        raise MemoryError(str(error)) from error
    return error.strerror


def sign_in(messages: Iterable[tuple[int, str, str]], expected: Iterable[str] = ()) -> str | None:
    """The first sign of damage in what was said, but for words that are expected."""
    harmless = (*HARMLESS, *expected)
    return next((_sentence(text) for level, _, text in messages if _is_sign(level, text, harmless)), None)


def _is_sign(level: int, text: str, harmless: Iterable[str]) -> bool:
    if level > av.logging.ERROR:
        return any(words in text for words in TELLING)
    return not any(words in text for words in harmless)


def _sentence(text: str) -> str:
    return " ".join(text.split())
