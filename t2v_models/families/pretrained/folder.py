"""What a folder of diffusers holds, seen before anything of it is loaded. Nothing is unpickled and no code is run."""

import hashlib
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any

from t2v_models.config import LabError
from t2v_models.families.pretrained import library
from t2v_models.files import stamps

INDEX = "model_index.json"
SAVE = "save it with save_pretrained of diffusers"
UNPICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
LENGTHS = ("num_frames", "video_length", "frames")
"""What pipelines of films call their length. Those of pictures have no such word."""
MOST_HEADER = 100_000_000
"""Bytes, as safetensors itself has it."""
READ = (".json", ".txt", ".model")
"""Suffixes of what is read beside weights: settings, words, pieces of words."""


@dataclass(frozen=True)
class Part:
    """A network of a pipeline, or something without weights, as a tokenizer."""

    name: str
    package: str
    """Where its class is: diffusers or transformers."""
    weights: tuple[Path, ...] = ()
    variant: str = ""
    """What stands in the names of its weights where there are no others, such as fp16."""
    numbers: int = 0
    """In its weights."""


@dataclass(frozen=True)
class PipelineFolder:
    """A pipeline that can be loaded."""

    path: Path
    kind: Any
    """Its class in diffusers."""
    parts: tuple[Part, ...]
    empty: tuple[str, ...]
    """Parts that its class may have and it has not."""

    @classmethod
    def look(cls, path: Path) -> "PipelineFolder":
        """See what a folder holds.

        Raises:
            LabError: no folder, no pipeline, one that does not make clips of a text alone, weights that are missing,
                cut or would have to be unpickled.
        """
        if not path.is_dir():
            raise LabError(f"there is no folder {path}: pipelines are read from folders here, nothing is downloaded")
        index = _json(path / INDEX)
        if index is None:
            raise LabError(f"{path} holds no {INDEX}, so it is no pipeline: {SAVE}")
        kind = _class(path, index.get("_class_name"))
        named = {name: part for name, part in index.items() if isinstance(part, list) and not name.startswith("_")}
        parts = [_part(path / name, package) for name, (package, _) in named.items() if package is not None]
        variants = sorted({part.variant for part in parts} - {""})
        if len(variants) > 1:
            raise LabError(f"{path} mixes weights of {' and '.join(variants)}: {SAVE}")
        return cls(path, kind, tuple(parts), tuple(name for name, (package, _) in named.items() if package is None))

    @property
    def variant(self) -> str | None:
        """See `Part`."""
        return next((part.variant for part in self.parts if part.variant), None)

    @property
    def parameters(self) -> dict[str, Any]:
        """What its class can be asked for, with what it takes otherwise."""
        return {name: p.default for name, p in inspect.signature(self.kind.__call__).parameters.items()}

    @property
    def length(self) -> str:
        """What its class calls the number of frames."""
        return next(name for name in LENGTHS if name in self.parameters)

    @property
    def sha256(self) -> str:
        """Of all that is read. Taken once while the files stay as they are."""
        settings = [file for file in self.path.rglob("*") if file.suffix in READ and file.is_file()]
        weights = [file for part in self.parts for file in part.weights]
        return _sha256(self.path, tuple(sorted({*settings, *weights})), tuple(sorted(stamps(self.path))))


def _json(path: Path) -> dict[str, Any] | None:
    """An object, or None where no file is."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise LabError(f"{path} is no JSON ({error}): {SAVE} again") from error
    if not isinstance(found, dict):
        raise LabError(f"{path} holds no object: {SAVE} again")
    return found


def _class(path: Path, name: object) -> Any:
    """The class of a pipeline, if it makes clips of a text alone."""
    diffusers = library.package("diffusers")
    kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    if not isinstance(kind, type) or not issubclass(kind, diffusers.DiffusionPipeline):
        raise LabError(
            f"{path} wants the class {name}, which diffusers {diffusers.__version__} has not: code that lies in "
            "folders is never run; install a version that has it"
        )
    asked = inspect.signature(kind.__call__).parameters
    needs = [n for n, p in asked.items() if p.default is p.empty and n not in ("self", "prompt", "args", "kwargs")]
    if needs or "prompt" not in asked:
        raise LabError(f"{name} in {path} needs {', '.join(needs) or 'no prompt'}: name a pipeline of text to video")
    if not set(LENGTHS) & set(asked):
        raise LabError(f"{name} in {path} makes no clips: name a pipeline of text to video")
    return kind


def _part(place: Path, package: str) -> Part:
    """A part by its folder.

    Raises:
        LabError: it is of a package that is not trusted, or its weights are missing or would have to be unpickled.
    """
    if package not in ("diffusers", "transformers") and not hasattr(import_module("diffusers.pipelines"), package):
        raise LabError(
            f"{place.parent} has its {place.name} from {package}: parts of diffusers and transformers only are loaded"
        )
    if not place.is_dir():
        raise LabError(f"{place.parent} lacks the folder {place.name}, which its {INDEX} names: {SAVE} again")
    if not (place / "config.json").is_file():  # no network
        return Part(place.name, package)
    first = _first_weights(place)
    weights = [first]
    if first.suffix == ".json":
        index = _json(first) or {}
        names = sorted(set(index.get("weight_map", {}).values()))
        for name in names:
            if Path(name).name != name or not (place / name).is_file():
                raise LabError(f"{place} lacks {name}, which {first.name} names: copy it there")
        weights = [place / name for name in names]
    return Part(place.name, package, tuple(weights), _variant(first), sum(map(_numbers, weights)))


def _first_weights(place: Path) -> Path:
    """`model.safetensors`, or `model.fp16.safetensors` where there is no other, or the index of several files.

    Raises:
        LabError: there is none; where there are others, why they are not read.
    """
    files = sorted(place.iterdir())
    found = [p for p in files if ".safetensors" in p.name and "-of-" not in p.name]
    if found:
        return min(found, key=lambda p: (_variant(p), p.name))
    if pickled := next((p for p in files if p.suffix in UNPICKLED), None):
        raise LabError(
            f"the weights of {place} are {pickled.name}, which can run any program when it is unpickled: convert them "
            "to safetensors where you trust them"
        )
    raise LabError(f"{place} lacks its weights, a file of safetensors: {SAVE} again")


def _variant(file: Path) -> str:
    """`fp16` of `model.fp16.safetensors` and of `model.safetensors.index.fp16.json`."""
    return "".join(word for word in file.name.split(".")[1:] if word not in ("safetensors", "index", "json"))


def _numbers(file: Path) -> int:
    """How many numbers a file of safetensors holds.

    Raises:
        LabError: it is cut, or is no such file.
    """
    with file.open("rb") as content:
        size = int.from_bytes(content.read(8), "little")
        try:
            header = json.loads(content.read(size) if size < MOST_HEADER else b"")
            tensors = [tensor for name, tensor in header.items() if name != "__metadata__"]
            end = 8 + size + max((int(tensor["data_offsets"][1]) for tensor in tensors), default=0)
            numbers = sum(int(prod(tensor["shape"])) for tensor in tensors)
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise LabError(f"{file} is no file of safetensors: copy it again") from error
    if (found := file.stat().st_size) != end:
        raise LabError(f"{file} has {found:,} bytes and should have {end:,}: copy it again")
    return numbers


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
