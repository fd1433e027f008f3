"""The judge of an ingested dataset, trained and proven once and kept in its folder.

The file begins with a digest over its content and over all that decided it: every byte of both parts of the dataset,
and the code. One that is damaged, or of another dataset, is made again.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
from pydantic import TypeAdapter

from t2v_models import files
from t2v_models.config import LabError
from t2v_models.judging.encoders import BATCH, STEPS, Encoders, train
from t2v_models.judging.own_clips import OwnClips
from t2v_models.judging.proof import controls, fault
from t2v_models.judging.real_cache import opened, seal
from t2v_models.judging.reference import Reference
from t2v_models.judging.scores import digest
from t2v_models.judging.statistics import Score
from t2v_models.text.split import are_vectors

KEPT = "judge.kept"
"""In the folder of the dataset; of another shape than that of most clips `judge-64x36x10.kept`."""
Bounds = dict[str, dict[str, Score]]

_BOUNDS = TypeAdapter(Bounds)
_LENGTH = 8
"""Bytes that say how long the JSON before the weights is."""


def reference_of(
    own: OwnClips,
    tell: Callable[[float, str], None] = lambda share, note: None,
    steps: int = STEPS,
    batch: int = BATCH,
) -> tuple[Reference, Bounds]:
    """The proven judge of a dataset, and the figures of its ceiling and floors.

    Args:
        own: the ingested dataset, or its clips of one shape; the judge is kept in its folder.
        tell: told the share done and a note.
        steps: updates of each pair of encoders.
        batch: clips of each.

    Raises:
        LabError: captions are numbers; the judge failed a proof; the folder cannot be written.
    """
    folder = own.training.manifest.folder
    if are_vectors(own.captions):
        raise LabError(
            f"the captions of {folder} are numbers, as {own.captions[0]!r}, of which a judge would learn words: go by "
            "the loss on clips kept for validation, which the training tells, and look at clips"
        )
    path = folder / (KEPT if own.spec == own.training.spec else f"judge-{own.spec.name}.kept")
    key = f"{own.digest} {steps} {batch} {code_digest()}".encode()
    content = opened(path, key)
    if not content:
        encoders = train(own.training_views, own.training_captions, own.config.meaning,
                         lambda share, note: tell(0.8 * share, f"learning {note}"), steps, batch)  # fmt: skip
        bounds = controls(Reference(own, encoders), lambda share, note: tell(0.8 + 0.2 * share, note))
        content = _packed(encoders, bounds)
        with files.atomic(path) as file:
            file.write(seal(content, key))
            file.write(content)
    encoders, bounds = _unpacked(content)
    if why := fault(bounds):
        raise LabError(
            f"no judge of {folder} can be believed: {why}; bring more clips, or captions that say what clips show"
        )
    tell(1, "kept")
    return Reference(own, encoders), bounds


def code_digest() -> str:
    """16 hex digits that change with any line of this package."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return digest(hashlib.sha256(source.read_bytes()).hexdigest() for source in sources)


def _packed(encoders: Encoders, bounds: Bounds) -> bytes:
    told = json.dumps({"vocabulary": encoders.vocabulary, "bounds": _BOUNDS.dump_python(bounds, mode="json")}).encode()
    weights = {f"{name}.{key}": w for name, pair in encoders.pairs.items() for key, w in pair.state_dict().items()}
    return len(told).to_bytes(_LENGTH, "big") + told + safetensors.torch.save(weights)


def _unpacked(content: bytes) -> tuple[Encoders, Bounds]:
    end = _LENGTH + int.from_bytes(content[:_LENGTH], "big")
    told = json.loads(content[_LENGTH:end])
    encoders, weights = Encoders.of(told["vocabulary"]), safetensors.torch.load(content[end:])
    for name, pair in encoders.pairs.items():
        own = {key.removeprefix(f"{name}."): w for key, w in weights.items() if key.startswith(f"{name}.")}
        pair.load_state_dict(own)
        pair.eval()
    return encoders, _BOUNDS.validate_python(told["bounds"])
