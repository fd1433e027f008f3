"""The parts of a pipeline of diffusers: what its index says of each, seen before anything of it is loaded."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from t2v_models import library
from t2v_models.config import LabError
from t2v_models.weights import SAVE, all_weights, first_weights, numbers_in, variant_of

INDEX = "model_index.json"
SPARE = ("safety_checker", "feature_extractor")
"""Parts that watch pictures and make none: every class does without."""


@dataclass(frozen=True)
class Part:
    """A network of a pipeline, or something without weights, as a tokenizer."""

    place: Path
    """Its folder."""
    kind: Any
    """Its class, of diffusers or transformers."""
    weights: tuple[Path, ...] = ()
    variant: str = ""
    """What stands in the names of its weights where there are no others, such as fp16."""
    numbers: int = 0
    """In its weights."""

    @property
    def name(self) -> str:
        """In its pipeline."""
        return self.place.name

    @classmethod
    def look(cls, place: Path, package: str, class_name: str) -> "Part":
        """A part by its folder.

        Raises:
            LabError: it is of a package that is not trusted or has no such class, or its weights or words are missing
                or would have to be unpickled.
        """
        kind = _kind(place, package, class_name)
        if not place.is_dir():
            raise LabError(f"{place.parent} lacks the folder {place.name}, which its {INDEX} names: {SAVE} again")
        words = sorted(set(getattr(kind, "vocab_files_names", {}).values()))  # of a tokenizer
        if words and not any((place / name).is_file() for name in words):
            raise LabError(f"{place} lacks its words, one of {', '.join(words)}: copy it again")
        if not (place / "config.json").is_file():  # no network
            return cls(place, kind)
        first = first_weights(place)
        weights = all_weights(first)
        return cls(place, kind, weights, variant_of(first), sum(map(numbers_in, weights)))

    def load(self, dtype: Any) -> Any:
        """The network, whose every weight is in its files under a name that its package knows, today's or an old one.

        Where weights are missing, transformers would go on with random ones, for training, and diffusers with none.

        Raises:
            LabError: one is not, or has another shape.
        """
        closed = {"trust_remote_code": False} if self.kind.__module__.startswith("transformers.") else {}
        network, told = self.kind.from_pretrained(
            self.place, dtype=dtype, use_safetensors=True, variant=self.variant or None, local_files_only=True,
            output_loading_info=True, ignore_mismatched_sizes=True, **closed,
        )  # fmt: skip
        own = {name for name, _ in network.named_parameters(remove_duplicate=False)}
        if missing := sorted(own & set(told["missing_keys"])):
            raise LabError(
                f"the files of {self.place} lack {len(missing)} of {len(own)} tensors of {self.kind.__name__}, as "
                f"{missing[0]}: copy them again, or {SAVE}"
            )
        for name, found, wanted in sorted(told["mismatched_keys"]):
            raise LabError(
                f"in the files of {self.place} {name} has the shape {tuple(found)}, and {self.kind.__name__} of its "
                f"config.json wants {tuple(wanted)}: copy the folder again"
            )
        return network


def _kind(place: Path, package: str, class_name: str) -> Any:
    pipelines = import_module("diffusers.pipelines")
    if package in ("diffusers", "transformers"):
        where = library.package(package)
    elif hasattr(pipelines, package):
        where = getattr(pipelines, package)
    else:
        raise LabError(
            f"{place.parent} has its {place.name} from {package}: parts of diffusers and transformers only are loaded"
        )
    kind = getattr(where, class_name, None)
    if not isinstance(kind, type):
        version = library.package(package).__version__ if package in ("diffusers", "transformers") else "this version"
        raise LabError(
            f"{place.parent} wants the class {class_name} for its {place.name}, which {package} {version} has not: "
            "install a version that has it"
        )
    return kind


def declared(path: Path, pipeline: Any, index: dict[str, Any]) -> dict[str, tuple[str, str] | None]:
    """What an index says of each part: its package and class, or None where the pipeline does without.

    Raises:
        LabError: it says it in another form, or has none where the class needs one.
    """
    wanted, _ = pipeline._get_signature_keys(pipeline)
    found: dict[str, tuple[str, str] | None] = {}
    for name, said in index.items():
        if name.startswith("_") or (name not in wanted and not isinstance(said, list)):
            continue
        match said:
            case [str(package), str(class_name)]:
                found[name] = package, class_name
            case [None, None] | None if name in (*SPARE, *pipeline._optional_components) or name not in wanted:
                found[name] = None
            case [None, None] | None:
                raise LabError(f"{path} has no {name}, which {pipeline.__name__} needs: {SAVE} again")
            case _:
                raise LabError(
                    f'{path / INDEX} says {said!r} of {name}, and a part is ["package", "class"]: {SAVE} again'
                )
    return found
