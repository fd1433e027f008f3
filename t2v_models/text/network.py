"""The encoder `transformers`: a frozen network of others that lies in a folder; any caption is welcome.

CLIP's text model, the encoder of a T5, or a network of BERT's kind, as encoders of sentences are: the last states of
its tokens, each brought to length 1, which a family's first linear layer turns into what matters. Nothing is downloaded
or unpickled, and no code of a folder is run. A run keeps the digest of the folder and not its weights: these may be
gigabytes, and many runs share them.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from t2v_models import library
from t2v_models.config import LabError
from t2v_models.text.encoder import TextConfig, TextEncoder
from t2v_models.weights import READ, SAVE, all_weights, first_weights, numbers_in, read_json, sha256_of

KINDS = {
    "clip": "CLIPTextModel", "clip_text_model": "CLIPTextModel",
    "t5": "T5EncoderModel", "mt5": "MT5EncoderModel", "umt5": "UMT5EncoderModel",
    "bert": "BertModel", "distilbert": "DistilBertModel", "mpnet": "MPNetModel", "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
}  # fmt: skip
"""Classes of transformers, by what `config.json` calls the kind of a network."""
WIDTHS = ("hidden_size", "d_model", "dim")
"""What they call d."""
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model", "sentencepiece.bpe.model")
MOST_TOKENS = 512
"""Of a caption, where the network has no lower limit of its own; longer ones are cut."""

log = logging.getLogger(__name__)


class TransformersConfig(TextConfig):
    """An open vocabulary."""

    about = "any words, by a frozen network in a folder: CLIP, T5 or an encoder of sentences; needs transformers"
    taken: ClassVar[frozenset[str]] = frozenset({"sha256"})
    hears_order = True

    name: Literal["transformers"] = "transformers"
    folder: Path | None = Field(None, description="of the network and its tokenizer; transformers:FOLDER says it, too")
    sha256: str | None = Field(None, description="of its files; taken when a run begins")

    def fitted(self, captions: Sequence[str]) -> Self:
        """With the digest of its files, unless it has one, and where they lie, whatever folder one works in later."""
        found = _Folder.look(self.folder)
        return self.model_copy(update={"folder": found.path.absolute(), "sha256": self.sha256 or found.sha256})

    def build(self) -> "Network":
        """The encoder, from its files.

        Raises:
            LabError: transformers is not installed; the files are not there, are of no such network, or others than
                when the run began.
        """
        library.require("the text encoder transformers")
        found = _Folder.look(self.folder)
        if self.sha256 not in (None, found.sha256):
            raise LabError(
                f"the text encoder in {found.path} is another than that which the model was trained with (sha256 "
                f"{found.sha256[:12]}… instead of {str(self.sha256)[:12]}…): bring back the files it had"
            )
        return Network(found, self.positions)


@dataclass(frozen=True)
class _Folder:
    """What a folder holds, seen before anything of it is loaded."""

    path: Path
    kind: str
    """The class of its network."""
    width: int
    positions: int
    """The longest text it takes, tokens."""
    sha256: str

    @classmethod
    def look(cls, path: Path | None) -> Self:
        """See what a folder holds.

        Raises:
            LabError: no folder, no network that is known here, no tokenizer, weights that are missing, cut or would
                have to be unpickled.
        """
        if path is None:
            raise LabError("the text encoder transformers needs a folder: --set text_encoder=transformers:FOLDER")
        if not path.is_dir():
            raise LabError(
                f"there is no folder {path} with a text encoder: nothing is downloaded; bring it there, for a model "
                "that was trained with it as well"
            )
        config = read_json(path / "config.json")
        if config is None:
            raise LabError(f"{path} holds no config.json, so it is no network of transformers: {SAVE}")
        kind = KINDS.get(config.get("model_type", ""))
        own = config.get("text_config") or config
        width = next((own[name] for name in WIDTHS if isinstance(own.get(name), int)), None)
        if kind is None or width is None:
            raise LabError(
                f"{path} holds a network of the kind {config.get('model_type')!r}: text encoders are "
                f"{', '.join(KINDS)}; code that lies in folders is never run"
            )
        if not any((path / name).is_file() for name in TOKENIZERS):
            raise LabError(f"{path} lacks its tokenizer, one of {', '.join(TOKENIZERS)}: {SAVE} of the tokenizer, too")
        weights = all_weights(first_weights(path))
        for file in weights:
            numbers_in(file)
        files = [file for file in path.iterdir() if file.suffix in READ and file.is_file()]
        most = min(own.get("max_position_embeddings") or MOST_TOKENS, MOST_TOKENS)
        return cls(path, kind, width, most, sha256_of(path, [*files, *weights]))


class Network(TextEncoder):
    """The last states of a network, in order, each of length 1. It is loaded when a caption is not known yet."""

    def __init__(self, folder: _Folder, positions: int = 0) -> None:
        super().__init__(folder.width, positions)
        self.digest = folder.sha256
        self._folder = folder
        self._loaded: tuple[Any, Any] | None = None
        self._told = False

    def tokens(self, prompt: str) -> Tensor:
        """`(l, d)`, those that begin and end a text among them.

        Raises:
            LabError: no part of any word is known.
        """
        tokenizer, network = self._loaded = self._loaded or self._load()
        numbers = tokenizer(prompt)["input_ids"]
        if not tokenizer.decode(numbers, skip_special_tokens=True).strip():
            raise LabError(f"no part of any word of prompt {prompt!r} is known to the text encoder: use other words")
        most = min(self._folder.positions, tokenizer.model_max_length)
        if len(numbers) > most:
            if not self._told:
                log.warning("captions are cut to the %d tokens that the encoder takes, %r is one", most, prompt)
            self._told = True
            numbers = tokenizer(prompt, truncation=True, max_length=most)["input_ids"]
        device = self.place.device
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            states = network.to(device)(input_ids=torch.tensor([numbers], device=device)).last_hidden_state[0]
            return F.normalize(states.float(), dim=1).cpu()

    def _load(self) -> tuple[Any, Any]:
        """Tokenizer and network. Whatever is drawn meanwhile leaves torch's generator as it was.

        Raises:
            LabError: transformers cannot make them of the files, or these lack weights.
        """
        folder = self._folder
        own = {"local_files_only": True, "trust_remote_code": False}
        try:
            with library.unwarned(), torch.random.fork_rng(devices=[]):
                tokenizer = library.of("transformers", "AutoTokenizer").from_pretrained(folder.path, **own)
                network, told = library.of("transformers", folder.kind).from_pretrained(
                    folder.path, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **own
                )
        except Exception as error:  # tokenizers know no other class
            reason = " ".join(str(error).split()) or type(error).__name__
            raise LabError(f"{folder.path} cannot be loaded as a {folder.kind}: {reason:.200}; {SAVE} again") from error
        if missing := sorted(name for name in told["missing_keys"] if not name.startswith("pooler.")):
            raise LabError(f"{folder.path} lacks {len(missing)} weights, as {missing[0]}: {SAVE} again")
        return tokenizer, network.eval().requires_grad_(False)

    def rest(self) -> None:
        self._loaded = None
