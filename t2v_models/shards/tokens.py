"""Tokens of all clips of a dataset at rest, so that what learns tokens never decodes pixels.

A folder has one `.npy` for each shard of the dataset, uint16 `(clips, s, y, x)`, and `tokens.json`, which is written
last and says of which clips and by which tokenizer they are.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from shlex import quote

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from t2v_models import files
from t2v_models.clips.spec import in_a_row
from t2v_models.config import Config, LabError
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore

ABOUT = "tokens.json"
AT_ONCE = 256
"""Clips that are tokenised at a time."""

Tokenize = Callable[[NDArray[np.uint8]], NDArray[np.int64]]
"""Clips `(b, t, h, w, 3)` to tokens `(b, s, y, x)`."""
Progress = Callable[[int, int], None]


class Tokens(Config):
    """What the tokens in a folder are."""

    dataset: str
    """Digest of the dataset whose clips they are, in its order."""
    tokenizer: str
    """sha256 of the weights that made them."""
    shape: tuple[int, int, int]
    """(s, y, x) of a clip."""
    sha256: str
    """Of all tokens, in order."""


def place(run_dir: Path, dataset: str) -> Path:
    """Where the tokens of a dataset lie in the run folder of their tokenizer."""
    return run_dir / "tokens" / dataset


def write_tokens(store: ClipStore, folder: Path, tokenizer: str, tokenize: Tokenize, show: Progress) -> Tokens:
    """Make tokens of every clip; those that are there are left alone if they are of this tokenizer, else made anew.

    Args:
        store: the clips.
        folder: where they are written to.
        tokenizer: sha256 of its weights.
        tokenize: what it does.
        show: told how many of how many clips are done.

    Raises:
        LabError: the dataset has clips of several shapes, or it cannot be written.
    """
    manifest = store.manifest
    if len(manifest.shapes) > 1:
        raise LabError(
            f"{manifest.folder} has clips of several shapes ({in_a_row(manifest.shapes)}) and tokens are of one: "
            "make a dataset of one shape"
        )
    there = _about(folder)
    if there and (there.dataset, there.tokenizer) == (manifest.digest, tokenizer):
        return there
    files.remove(folder / ABOUT)
    shape, digest = (), hashlib.sha256()
    for index, first in enumerate(manifest.starts[:-1]):
        end = manifest.starts[index + 1]
        parts = []
        for start in range(first, end, AT_ONCE):
            parts.append(tokenize(store.frames(range(start, min(end, start + AT_ONCE)))).astype(np.uint16))
            show(start + len(parts[-1]), len(store))
        whole = np.concatenate(parts)
        shape = whole.shape[1:]
        digest.update(whole.tobytes())
        with files.atomic(_shard(folder, index)) as out:
            np.save(out, whole)
    found = Tokens(dataset=manifest.digest, tokenizer=tokenizer, shape=shape, sha256=digest.hexdigest())
    files.write(folder / ABOUT, found.model_dump_json(indent=2))
    return found


class TokenStore:
    """A dataset as an array of tokens: any rows, in any order. In memory, which takes a hundredth of the pixels'."""

    def __init__(self, manifest: Manifest, folder: Path, tokenizers: Sequence[str]) -> None:
        """Of a folder that `write_tokens` has filled, by one of these tokenizers.

        Raises:
            LabError: they are of another dataset or tokenizer, or a file is missing or damaged.
        """
        self.manifest = manifest
        about = _about(folder)
        again = f"run 't2v tokens {quote(str(manifest.folder))} {quote(str(folder.parent.parent))}' again"
        if about is None or about.dataset != manifest.digest:
            raise LabError(f"{folder} holds no whole set of tokens of this dataset: {again}, or remove that folder")
        if about.tokenizer not in tokenizers:
            raise LabError(
                f"{folder} holds tokens of a tokenizer with other weights ({about.tokenizer[:12]}, now "
                f"{' or '.join(sha[:12] for sha in tokenizers)}): {again}, or remove that folder"
            )
        try:
            self._tokens = np.concatenate([np.load(_shard(folder, k)) for k in range(len(manifest.shards))])
        except (OSError, ValueError, EOFError) as error:
            raise LabError(f"tokens in {folder} cannot be read ({error}): remove that folder and {again}") from error
        if hashlib.sha256(self._tokens.tobytes()).hexdigest() != about.sha256:
            raise LabError(f"tokens in {folder} are damaged (their sha256 has changed): remove that folder and {again}")

    def tokens(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of the clips of these rows, int64 `(b, s, y, x)`."""
        return self._tokens[rows].astype(np.int64)


def _shard(folder: Path, index: int) -> Path:
    return folder / f"shard-{index:05d}.npy"


def _about(folder: Path) -> Tokens | None:
    """None where nothing whole is said."""
    try:
        return Tokens.model_validate_json((folder / ABOUT).read_bytes())
    except (OSError, ValidationError):
        return None
