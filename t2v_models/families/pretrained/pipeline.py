"""Text-to-video pipelines of diffusers as samplers: any class, from a folder, as it is.

Imported only when asked for, with the extra `pretrained`. Nothing is downloaded: what is not in the folder is missing.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import torch

from t2v_models import library
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.pretrained.config import PipelineConfig
from t2v_models.families.pretrained.folder import PipelineFolder
from t2v_models.files import bytes_in_words
from t2v_models.machine import device_type
from t2v_models.sampler import Frames, Request, refuse_wishes

log = logging.getLogger(__name__)
FPS = 10
"""No pipeline says how fast its clips are to be played; `export_to_video` of diffusers takes this, too."""
WISHES = {
    "size": "height", "guidance": "guidance_scale", "steps": "num_inference_steps", "avoid": "negative_prompt"
}  # fmt: skip
"""What classes call what may be wished for."""
LESS = "ask for a smaller size= or fewer frames=, or use dtype=bfloat16"


class Pipeline:
    """A pipeline, made ready: loaded when its first clip is wanted.

    Raises:
        LabError: as `PipelineFolder.look`; options that it or this machine has not; too little memory for its weights.
    """

    sample_batch = 1

    def __init__(self, config: PipelineConfig) -> None:
        library.require("a pipeline")
        self.config, self.name = config, config.name
        self._folder = PipelineFolder.look(config.folder)
        self._device = device_type(config.device, config.dtype, 1)
        if config.offload != "no" and self._device == "cpu":
            raise LabError(f"offload={config.offload} keeps weights from a GPU and this machine has none: leave it out")
        self._check_wishes(frozenset(wish for wish in WISHES if getattr(config, wish, None) is not None))
        self._check_memory()
        self._told = False

    @property
    def class_name(self) -> str:
        """In diffusers."""
        return str(self._folder.kind.__name__)

    @cached_property
    def sha256(self) -> str:
        """Of its files and of the options that change its clips."""
        options = json.dumps(self.config.options, sort_keys=True)
        return hashlib.sha256(f"{self._folder.sha256} {options}".encode()).hexdigest()

    @property
    def settings(self) -> dict[str, object]:
        """What to record of it."""
        given = self.config.model_dump(mode="json", exclude_none=True)
        return given | {"class": self.class_name, "diffusers": library.package("diffusers").__version__}

    @cached_property
    def spec(self) -> ClipSpec:
        """Of the clips it makes unless asked for others. It may be larger than datasets may be."""
        length = self.config.frames or self._own(self._folder.length, "sample_frames", 1)
        height, width = self.config.size or (
            self._own(side, f"sample_{side}", self._per_latent) for side in ("height", "width")
        )
        return ClipSpec.model_construct(frames=length, height=height, width=width, fps=FPS)

    def check(self, request: Request) -> None:
        """See that its class has a word for every wish; whether it can meet it, diffusers says at the first clip.

        Raises:
            LabError: it has none.
        """
        self._check_wishes(request.wishes & WISHES.keys())
        self._check_values(request)
        if request.wishes:  # its own length and size are known once it is loaded
            refuse_wishes(self.name, self.spec, request, frozenset({"frames", *WISHES}))

    def sample(self, request: Request) -> Frames:
        """uint8 `(b, t, h, w, 3)`: 255 times what diffusers gives, rounded.

        Raises:
            LabError: a size, a length or another wish that the pipeline cannot meet; too little memory; clips that are
                no numbers.
        """
        self._check_values(request)
        asked = self._asked(request)
        clips = [self._clip(p, s, asked) for p, s in zip(request.prompts, request.seeds, strict=True)]
        wanted = request.frames or self.config.frames
        for clip in clips:
            if wanted not in (None, len(clip)):
                raise LabError(f"{self.name} makes {len(clip)} frames and not {wanted}: ask for so many")
        return np.stack(clips)

    def _asked(self, request: Request) -> dict[str, Any]:
        """Arguments of its class, without prompt and seed."""
        height, width = request.size or (self.spec.height, self.spec.width)
        named = {
            "height": height, "width": width, self._folder.length: request.frames or self.spec.frames,
            "num_inference_steps": request.steps or self.config.steps, "negative_prompt": request.avoid,
            "guidance_scale": self.config.guidance if request.guidance is None else request.guidance,
        }  # fmt: skip
        return {name: value for name, value in named.items() if value is not None and name in self._folder.parameters}

    def _clip(self, prompt: str, seed: int, asked: dict[str, Any]) -> Frames:
        """`(t, h, w, 3)`. What does not draw from the generator it is given depends on the seed as well."""
        pipe = self._pipe
        cards = [torch.cuda.current_device()] if self._device == "cuda" else []
        with torch.random.fork_rng(cards), self._trying(f"make a clip of {_listed(asked)}"):
            self._tell_if_cut(prompt)
            torch.manual_seed(seed)
            found = np.asarray(
                pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed), output_type="np", **asked)[0]
            )
        clip = found[0] if found.ndim == 5 else found  # Text2Video-Zero gives the frames of one clip by themselves
        if clip.ndim != 4 or clip.shape[-1] != 3:
            raise LabError(f"{self.name} gives {found.shape} and no clip: name a pipeline of text to video")
        if not np.isfinite(clip).all():
            way = "its weights are damaged, or steps= or guidance= suit it ill"
            raise LabError(
                f"{self.name} made colours that are no numbers in {self.config.dtype}: "
                + (way if self.config.dtype == "float32" else "use dtype=float32, or bfloat16 in place of float16")
            )
        return np.asarray(np.rint(np.clip(clip, 0, 1) * 255), np.uint8)

    def _tell_if_cut(self, prompt: str) -> None:
        """A prompt that is longer than its text encoder takes is cut by diffusers, whose word of it nobody hears."""
        tokenizer, most = getattr(self._pipe, "tokenizer", None), self._folder.parameters.get("max_sequence_length")
        if tokenizer is None or self._told:
            return
        most = min(most or tokenizer.model_max_length, tokenizer.model_max_length)
        count = len(tokenizer(prompt)["input_ids"])
        if count > most:
            self._told = True
            log.warning("prompts are cut to the %d tokens that %s takes; %.60r… has %d", most, self.name, prompt, count)

    @cached_property
    def _pipe(self) -> Any:
        folder = self._folder
        with self._trying("be loaded"):
            dtype = getattr(torch, self.config.dtype)
            networks = {part.name: part.load(dtype) for part in folder.parts if part.weights}
            pipe = folder.kind.from_pretrained(
                folder.path, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                **dict.fromkeys(folder.empty), **networks,
            )  # fmt: skip
            pipe.set_progress_bar_config(disable=True)
            match self.config.offload:
                case "no":
                    pipe.to(self._device)
                case "model":
                    pipe.enable_model_cpu_offload()
                case "layers":
                    pipe.enable_sequential_cpu_offload()
        return pipe

    @property
    def _per_latent(self) -> int:
        """Pixels of a side for one of what is denoised."""
        for name in ("vae_scale_factor_spatial", "vae_scale_factor"):
            if hasattr(self._pipe, name):
                return int(getattr(self._pipe, name))
        return 1

    def _own(self, name: str, sample: str, scale: int) -> int:
        """A length or a side of its class, else of its network (`sample` or `sample_size`, times `scale`).

        Raises:
            LabError: neither says.
        """
        network = getattr(self._pipe, "unet", None) or getattr(self._pipe, "transformer", None)
        config: dict[str, Any] = dict(network.config) if network else {}
        own = self._folder.parameters[name] or getattr(self._pipe, f"default_{name}", None)
        latent = config.get(sample) or config.get("sample_size")
        if own:
            return int(own)
        if isinstance(latent, int):
            return latent * scale
        raise LabError(f"{self.name} has no {name} of its own: add size=64 and frames=9, as it was made for")

    def _check_wishes(self, wishes: frozenset[str]) -> None:
        for wish in sorted(wishes):
            if WISHES[wish] not in self._folder.parameters:
                raise LabError(f"{self.class_name} in {self.config.folder} cannot be asked for {wish}: leave it out")

    def _check_values(self, request: Request) -> None:
        if request.guidance is not None and request.guidance < 0:
            raise LabError(f"the guidance is {request.guidance:g}: give 0 or more, how strongly the prompt counts")
        # Text2Video-Zero moves its pictures between two steps, `t0` and `t1`, counted from the last
        steps, last = request.steps or self.config.steps, self._folder.parameters.get("t1")
        if steps and isinstance(last, int) and steps <= last:
            raise LabError(
                f"{self.class_name} of {self.name} moves in its step {last}: ask for steps={last + 1} or more"
            )

    def _check_memory(self) -> None:
        """Weights fit where they go."""
        needs = sum(part.numbers for part in self._folder.parts) * getattr(torch, self.config.dtype).itemsize
        on_card = self._device == "cuda" and self.config.offload == "no"
        free = torch.cuda.mem_get_info()[0] if on_card else psutil.virtual_memory().available
        if needs > free:
            way = "dtype=bfloat16" + (" or offload=model" if on_card else "")
            raise LabError(
                f"the weights of {self.name} need {bytes_in_words(needs)} in {self.config.dtype} and "
                f"{bytes_in_words(free)} are free: try {way}, or a machine with more memory"
            )

    @contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """What diffusers will not do is a sentence; what it warns of is for those who write it."""
        try:
            with library.unwarned(), torch.inference_mode():
                yield
        except LabError:
            raise
        except Exception as error:  # tokenizers know no other class
            if isinstance(error, torch.OutOfMemoryError) or "allocate memory" in str(error):
                raise LabError(f"{self.name} cannot {what}, for there is too little memory: {LESS}") from error
            raise LabError(f"{self.class_name} of {self.name} cannot {what}: {_reason(error):.300}") from error


def _listed(asked: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in asked.items())


def _reason(error: Exception) -> str:
    """What went wrong."""
    if isinstance(error, OverflowError):  # transformers takes 1e30 for the length of texts where it is not told
        return "its tokenizer does not say how long texts may be: copy tokenizer_config.json again"
    return " ".join(str(error).split()) or type(error).__name__
