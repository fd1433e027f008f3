"""What a folder of diffusers holds, seen before anything of it is loaded. Nothing is unpickled and no code is run."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2v_models import library
from t2v_models.config import LabError
from t2v_models.families.pretrained.parts import INDEX, Part, declared
from t2v_models.weights import READ, SAVE, read_json, sha256_of

LENGTHS = ("num_frames", "video_length", "frames")
"""What pipelines of films call their length. Those of pictures have no such word."""


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
        index = read_json(path / INDEX)
        if index is None:
            raise LabError(f"{path} holds no {INDEX}, so it is no pipeline: {SAVE}")
        if "_class_name" not in index:
            raise LabError(f"{path / INDEX} names no class of a pipeline, as _class_name: {SAVE} again")
        kind = _class(path, index["_class_name"])
        said = declared(path, kind, index)
        parts = [Part.look(path / name, *part) for name, part in said.items() if part]
        variants = sorted({part.variant for part in parts} - {""})
        if len(variants) > 1:
            raise LabError(f"{path} mixes weights of {' and '.join(variants)}: {SAVE}")
        return cls(path, kind, tuple(parts), tuple(name for name, part in said.items() if part is None))

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
        return sha256_of(self.path, [*settings, *weights])


def _class(path: Path, name: object) -> Any:
    """The class of a pipeline, if it makes clips of a text alone."""
    diffusers = library.package("diffusers")
    kind = getattr(diffusers, name, None) if isinstance(name, str) else None
    if isinstance(kind, type) and not issubclass(kind, diffusers.DiffusionPipeline):
        raise LabError(f"{path} is of the class {name}, which is no pipeline: name the folder of a whole pipeline")
    if not isinstance(kind, type):
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
