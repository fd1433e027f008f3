"""The parts of a pipeline of diffusers: what its index says of each, seen before anything of it is loaded."""

import logging
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from t2v_models import library
from t2v_models.config import LabError
from t2v_models.weights import SAVE, all_weights, first_weights, numbers_in, read_json, variant_of

log = logging.getLogger(__name__)
INDEX, NETWORK = "model_index.json", "config.json"
"""Files of settings: of a pipeline, and of a network."""
NO_ROOM = "allocate memory", "Storage size calculation overflowed"
"""What torch says where there is too little memory."""
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
    config: str = ""
    """Name of the file of its settings, where its class cannot do without."""

    @property
    def name(self) -> str:
        """In its pipeline."""
        return self.place.name

    @classmethod
    def look(cls, place: Path, package: str, class_name: str) -> "Part":
        """A part by its folder.

        Raises:
            LabError: it is of a package that is not trusted or has no such class, or its settings, weights or words
                are missing or in a form that is not read.
        """
        kind = _kind(place, package, class_name)
        if not place.is_dir():
            raise LabError(f"{place.parent} lacks the folder {place.name}, which its {INDEX} names: {SAVE} again")
        words = sorted(set(getattr(kind, "vocab_files_names", {}).values()))  # of a tokenizer
        if words and not any((place / name).is_file() for name in words):
            raise LabError(f"{place} lacks its words, one of {', '.join(words)}: copy it again")
        config = _config(kind)
        if config and read_json(place / config) is None:
            raise LabError(f"{place} lacks {config}: {SAVE} again")
        if config != NETWORK:
            return cls(place, kind, config=config)
        first = first_weights(place)
        weights = all_weights(first)
        return cls(place, kind, weights, variant_of(first), sum(map(numbers_in, weights)), config)

    def load(self, dtype: Any) -> Any:
        """What it is; of a network, every weight is in its files under a name that its package knows.

        Raises:
            LabError: its package cannot build it of its files; of a network as `_whole`.
        """
        asked: dict[str, Any] = {"local_files_only": True}
        if self.kind.__module__.startswith("transformers."):
            asked["trust_remote_code"] = False
        if not self.weights:
            return self._built(**asked)
        return self._whole(*self._built(
            dtype=dtype, use_safetensors=True, variant=self.variant or None, output_loading_info=True,
            ignore_mismatched_sizes=True, **asked,
        ))  # fmt: skip

    def _built(self, **asked: Any) -> Any:
        try:
            return self.kind.from_pretrained(self.place, **asked)
        except Exception as error:  # of what stands in settings and words, packages raise anything
            if lacks_memory(error):
                raise
            raise LabError(
                f"{self.place / self.config} cannot be built as {self.kind.__name__} ({reason_of(error):.200}): save "
                "the pipeline again"
            ) from error

    def _whole(self, network: Any, told: dict[str, Any]) -> Any:
        """The network, if all it consists of was read: today's names or old ones.

        Where weights are missing, transformers would go on with random ones, for training, and diffusers with none.

        Raises:
            LabError: something was not, or has another shape.
        """
        own = set(network.state_dict())
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
        if unread := sorted(told["unexpected_keys"]):
            log.warning(
                "%s of its config.json does not read %d tensors in the files of %s, as %s: if that cuts it short, save "
                "the pipeline again", self.kind.__name__, len(unread), self.place, unread[0],
            )  # fmt: skip
        return network


def _config(kind: Any) -> str:
    """The file of settings that a class cannot do without, if any."""
    network = hasattr(kind, "_model_mapping") or issubclass(kind, library.package("transformers").PreTrainedModel)
    return str(NETWORK if network else getattr(kind, "config_name", None) or "")


def lacks_memory(error: Exception) -> bool:
    """Whether that is what went wrong; only a GPU has a class for it."""
    return type(error).__name__ == "OutOfMemoryError" or any(word in str(error) for word in NO_ROOM)


def reason_of(error: Exception) -> str:
    """What went wrong, in words of a package."""
    if isinstance(error, OverflowError):  # transformers takes 1e30 for the length of texts where it is not told
        return "its tokenizer does not say how long texts may be: copy tokenizer_config.json again"
    if "trust_remote_code" in str(error) or "custom code" in str(error):
        return "it wants code of its own, which is never run"
    return " ".join(str(error).split()) or type(error).__name__


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
    spare = {*SPARE, *pipeline._optional_components}
    if missing := sorted({*wanted} - index.keys() - spare):
        raise LabError(f"{path / INDEX} names no {missing[0]}, which {pipeline.__name__} needs: {SAVE} again")
    found: dict[str, tuple[str, str] | None] = {}
    for name, said in index.items():
        if name.startswith("_") or (name not in wanted and not isinstance(said, list)):
            continue
        match said:
            case [str(package), str(class_name)]:
                found[name] = package, class_name
            case [None, None] | None if name in spare or name not in wanted:
                found[name] = None
            case [None, None] | None:
                raise LabError(f"{path} has no {name}, which {pipeline.__name__} needs: {SAVE} again")
            case _:
                raise LabError(
                    f'{path / INDEX} says {said!r} of {name}, and a part is ["package", "class"]: {SAVE} again'
                )
    return found
