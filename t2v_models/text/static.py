"""The encoder `static`: frozen vectors of pieces of words, from a package or a folder; any caption is welcome.

Vectors that others learnt from much text lie near each other for words that stand in the same sentences. By themselves
they must not condition: "left" is nearer to "right" than to "leftwards". A family's first linear layer, which is
trained, turns them into what matters: 70 % of directions in words never trained are then told apart, of bags of known
words 32 % (docs/log/2026-11.md).
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from t2v_models.config import LabError
from t2v_models.text.encoder import TextConfig, TextEncoder
from t2v_models.text.pieces import Pieces
from t2v_models.text.split import words

PACKAGE = "wordllama"
"""16 MB of weights in the wheel: the token vectors of Llama 2, brought to 256 numbers (MIT). Two of its files are read,
none of its code is run, so it needs none of what it depends on."""
IN_PACKAGE = "tokenizers/l2_supercat_tokenizer_config.json", "weights/l2_supercat_256.safetensors"
IN_FOLDER = "tokenizer.json", "model.safetensors"


class StaticConfig(TextConfig):
    """An open vocabulary."""

    about = f"any words, by frozen vectors of their pieces; needs the package {PACKAGE} or a folder of such vectors"
    taken: ClassVar[frozenset[str]] = frozenset({"sha256"})

    name: Literal["static"] = "static"
    folder: Path | None = Field(
        None, description="holds tokenizer.json and model.safetensors; by default the files of the package wordllama"
    )
    sha256: str | None = Field(None, description="of both files; taken when a run begins")

    def fitted(self, captions: Sequence[str]) -> Self:
        """With the digest of its files, unless it has one."""
        return self if self.sha256 else self.model_copy(update={"sha256": _read(*self._files())[1]})

    def build(self) -> "Static":
        """The encoder, from its files.

        Raises:
            LabError: they are not there, are no such files, or others than when the run began.
        """
        tokenizer, weights = self._files()
        encoder, sha256 = _read(tokenizer, weights)
        if self.sha256 not in (None, sha256):
            raise LabError(
                f"the vectors in {weights} are others than those that the model was trained with "
                f"(sha256 {sha256[:12]}… instead of {self.sha256[:12]}…): bring back the files it had"
            )
        return Static(*encoder, sha256, self.positions)

    def _files(self) -> tuple[Path, Path]:
        """Of the tokenizer and the vectors."""
        folder, names = self.folder, IN_FOLDER
        if folder is None:
            package = find_spec(PACKAGE)
            if not package or not package.submodule_search_locations:
                raise LabError(
                    f"the text encoder static needs the package {PACKAGE}: install it with 'pip install "
                    f"--no-deps {PACKAGE}', or set text_encoder.folder to a folder with {' and '.join(IN_FOLDER)}"
                )
            folder, names = Path(package.submodule_search_locations[0]), IN_PACKAGE
        for name in names:
            if not (folder / name).is_file():
                raise LabError(f"the text encoder static needs the file {folder / name}, which is not there")
        return folder / names[0], folder / names[1]


class Static(TextEncoder):
    """Frozen vectors of pieces of words, in order; of mean length 1.

    Args:
        pieces: cuts words.
        vectors: of all pieces, `(n, w)`.
        digest: of the files of both.
        positions: as for every encoder.
    """

    def __init__(self, pieces: Pieces, vectors: Tensor, digest: str, positions: int = 0):
        super().__init__(vectors.shape[1], positions)
        self.digest = digest
        self._pieces, self._vectors = pieces, vectors
        self._scale = 1 / float(torch.linalg.vector_norm(vectors.float(), dim=1).mean())

    def tokens(self, prompt: str) -> Tensor:
        """`(l, w)`.

        Raises:
            LabError: no piece of any word is known, but for the sign of its beginning.
        """
        numbers = [number for word in words(prompt) for number in self._pieces.of(word)]
        if set(numbers) <= {self._pieces.blank}:
            raise LabError(f"no part of any word of prompt {prompt!r} is known to the text encoder: use other words")
        return self._vectors[numbers].float() * self._scale


def _read(*files: Path) -> tuple[tuple[Pieces, Tensor], str]:
    """The two parts of an encoder, and the digest of their files; read once while these stay as they are."""
    return _parsed(*files, *((file.stat().st_size, file.stat().st_mtime_ns) for file in files))


@lru_cache(2)
def _parsed(tokenizer: Path, weights: Path, *_as_they_are: tuple[int, int]) -> tuple[tuple[Pieces, Tensor], str]:
    contents = tokenizer.read_bytes(), weights.read_bytes()
    try:
        pieces, tensors = Pieces(contents[0]), load(contents[1])
        (vectors,) = tensors.values()
        if vectors.ndim != 2 or len(vectors) <= max(pieces.numbers):
            raise ValueError(f"{tuple(vectors.shape)} vectors are not one for each of {max(pieces.numbers) + 1} pieces")
    except (ValueError, SafetensorError) as error:
        raise LabError(f"{tokenizer.parent} holds no text encoder of static vectors: {error}") from error
    return (pieces, vectors), hashlib.sha256(b"".join(contents)).hexdigest()
