"""Weights that lie in folders, seen before anything of them is loaded. Nothing is unpickled and no code is run."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from t2v_models.config import LabError
from t2v_models.files import stamps

SAVE = "save it with save_pretrained"
UNPICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
MOST_HEADER = 100_000_000
"""Bytes, as safetensors itself has it."""
WEIGHTS = ("F64", "F32", "F16", "BF16")
COUNTS = ("I64", "BOOL")
"""What tensors of safetensors hold, in its words: weights, and beside them places or counts."""
READ = (".json", ".txt", ".model")
"""Suffixes of what is read beside weights: settings, words, pieces of words."""


def read_json(path: Path) -> dict[str, Any] | None:
    """An object, or None where no file is.

    Raises:
        LabError: it is none, or cannot be read.
    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}): {SAVE} again") from error
    except ValueError as error:
        raise LabError(f"{path} is no JSON ({error}): {SAVE} again") from error
    if not isinstance(found, dict):
        raise LabError(f"{path} holds no object: {SAVE} again")
    return found


def first_weights(place: Path) -> Path:
    """`model.safetensors`, or `model.fp16.safetensors` where there is no other, or the index of several files.

    Raises:
        LabError: there is none; where there are others, why they are not read.
    """
    files = sorted(path for path in place.iterdir() if path.is_file())
    found = [p for p in files if ".safetensors" in p.name and "-of-" not in p.name]
    if found:
        return min(found, key=lambda p: (variant_of(p), p.name))
    if pickled := next((p for p in files if p.suffix in UNPICKLED), None):
        raise LabError(
            f"the weights of {place} are {pickled.name}, which can run any program when it is unpickled: convert them "
            "to safetensors where you trust them"
        )
    raise LabError(f"{place} lacks its weights, a file of safetensors: {SAVE} again")


def all_weights(first: Path) -> tuple[Path, ...]:
    """The files of safetensors that an index names, or the one that there is.

    Raises:
        LabError: one is missing, or the index names none.
    """
    if first.suffix != ".json":
        return (first,)
    named = (read_json(first) or {}).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise LabError(f'{first} does not say {{"weight_map": {{"tensor": "file", ...}}}}: {SAVE} again')
    names = sorted(set(named.values()))
    for name in names:
        if Path(name).name != name or not (first.parent / name).is_file():
            raise LabError(f"{first.parent} lacks {name}, which {first.name} names: copy it there")
    return tuple(first.parent / name for name in names)


def variant_of(file: Path) -> str:
    """`fp16` of `model.fp16.safetensors` and of `model.safetensors.index.fp16.json`."""
    return "".join(word for word in file.name.split(".")[1:] if word not in ("safetensors", "index", "json"))


def numbers_in(file: Path) -> int:
    """How many numbers a file of safetensors holds.

    Raises:
        LabError: it is cut, is no such file, or holds what has to be made weights first.
    """
    with file.open("rb") as content:
        size = int.from_bytes(content.read(8), "little")
        try:
            header = json.loads(content.read(size) if size < MOST_HEADER else b"")
            tensors = {name: tensor for name, tensor in header.items() if name != "__metadata__"}
            kinds = {name: tensor["dtype"] for name, tensor in tensors.items()}
            end = 8 + size + max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
            numbers = sum(int(prod(tensor["shape"])) for tensor in tensors.values())
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise LabError(f"{file} is no file of safetensors: copy it again") from error
    if (found := file.stat().st_size) != end:
        raise LabError(f"{file} has {found:,} bytes and should have {end:,}: copy it again")
    for name, kind in kinds.items():
        if kind not in WEIGHTS and (kind not in COUNTS or name.endswith((".weight", ".bias"))):
            raise LabError(
                f"{file} holds {name} as {kind}, made small in a way that is not read here: take weights in float32, "
                "bfloat16 or float16"
            )
    return numbers


def sha256_of(path: Path, files: Iterable[Path]) -> str:
    """Of files in a folder. Taken once while all that lies there stays as it is."""
    return _sha256(path, tuple(sorted(set(files))), tuple(sorted(stamps(path))))


@lru_cache(8)
def _sha256(path: Path, files: tuple[Path, ...], _as_they_are: tuple[tuple[float, int], ...]) -> str:
    whole = hashlib.sha256()
    for file in files:
        whole.update(f"{file.relative_to(path)} {file.stat().st_size}\n".encode())
        with file.open("rb") as content:
            for part in _parts(content):
                whole.update(part)
    return whole.hexdigest()


def _parts(content: Any) -> Iterator[bytes]:
    while part := content.read(1 << 24):
        yield part
