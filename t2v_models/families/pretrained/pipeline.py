"""Text-to-video pipelines of diffusers as samplers: any class, from a folder, as it is.

Imported only when asked for, with the extra `pretrained`. Nothing is downloaded: what is not in the folder is missing.
"""

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import psutil
import torch

from t2v_models import library
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.pretrained.config import PipelineConfig
from t2v_models.families.pretrained.cuts import tell_cuts
from t2v_models.families.pretrained.folder import PipelineFolder
from t2v_models.families.pretrained.parts import lacks_memory, reason_of
from t2v_models.files import bytes_in_words
from t2v_models.machine import device_type, has_bfloat16
from t2v_models.sampler import Frames, Request, refuse_wishes

log = logging.getLogger(__name__)
FPS = 10
"""No pipeline says how fast its clips are to be played; `export_to_video` of diffusers takes this, too."""
LOADED = "be loaded"
"""What may go wrong before a clip is asked for."""
WISHES = {
    "size": "height", "guidance": "guidance_scale", "steps": "num_inference_steps", "avoid": "negative_prompt"
}  # fmt: skip
"""What classes call what may be wished for."""


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
        self._told: set[str] = set()
        self._asks: tuple[str, str | None] = "", None  # what is to be seen, and what not

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
        self._tell_own(request, asked)
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
            self._asks = prompt, asked.get("negative_prompt")
            torch.manual_seed(seed)
            found = np.asarray(
                pipe(prompt=prompt, generator=torch.Generator().manual_seed(seed), output_type="np", **asked)[0]
            )
        clip = found[0] if found.ndim == 5 else found  # Text2Video-Zero gives the frames of one clip by themselves
        if clip.ndim != 4 or clip.shape[-1] != 3:
            raise LabError(f"{self.name} gives {found.shape} and no clip: name a pipeline of text to video")
        if not np.isfinite(clip).all():
            way = "its weights are damaged, or steps= or guidance= suit it ill"
            bfloat16 = self.config.dtype == "float16" and has_bfloat16(self._device)
            other = ", or bfloat16 in place of float16" if bfloat16 else ""
            raise LabError(
                f"{self.name} made colours that are no numbers in {self.config.dtype}: "
                + (way if self.config.dtype == "float32" else f"use dtype=float32{other}")
            )
        return np.asarray(np.rint(np.clip(clip, 0, 1) * 255), np.uint8)

    def _tell_own(self, request: Request, asked: dict[str, Any]) -> None:
        """Once, where nobody asked for a size: what a class was made for may take a processor hours."""
        about = "%s makes %d frames of %d x %d px in %s steps, as its class does: for others add size=, frames=, steps="
        if self._device != "cpu" or about in self._told or (request.size or self.config.size):
            return
        self._told.add(about)
        steps = asked.get("num_inference_steps") or self._folder.parameters.get("num_inference_steps")
        log.warning(about, self.name, request.frames or self.spec.frames, self.spec.width, self.spec.height, steps)

    def _tell_cut(self, tokenizer: str, text: str, most: int, count: int) -> None:
        """Once for each tokenizer and for what is not to be seen: what diffusers says of it nobody hears."""
        prompt, avoid = self._asks
        negative = avoid is not None and _plain(avoid) in _plain(text) and _plain(prompt) not in _plain(text)
        what = f"{'negative prompts' if negative else 'prompts'} are cut to the {most} tokens that the {tokenizer} of"
        if what not in self._told:
            self._told.add(what)
            log.warning("%s %s takes; %.60r… has %d", what, self.name, avoid if negative else prompt, count)

    @cached_property
    def _pipe(self) -> Any:
        folder = self._folder
        with self._trying(LOADED):
            dtype = getattr(torch, self.config.dtype)
            parts = {part.name: part.load(dtype) for part in folder.parts}
            pipe = folder.kind.from_pretrained(
                folder.path, use_safetensors=True, local_files_only=True, trust_remote_code=False,
                **dict.fromkeys(folder.empty), **parts,
            )  # fmt: skip
            pipe.set_progress_bar_config(disable=True)
            for name, part in parts.items():
                if hasattr(part, "model_max_length"):  # a tokenizer
                    tell_cuts(part, partial(self._tell_cut, name))
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
        if isinstance(latent, int) and latent > 0:
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
            ways = [*self._smaller, *(["offload=model"] if on_card else []), "a machine with more memory"]
            raise LabError(
                f"the weights of {self.name} need {bytes_in_words(needs)} in {self.config.dtype} and "
                f"{bytes_in_words(free)} are free: try {' or '.join(ways)}"
            )

    @property
    def _smaller(self) -> list[str]:
        """The option, if any, by which this machine keeps numbers in less memory."""
        half = "bfloat16" if has_bfloat16(self._device) else "float16"
        return [f"dtype={half}"] if self.config.dtype == "float32" else []

    @contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        """What diffusers will not do is a sentence; what it warns of is for those who write it."""
        try:
            with library.unwarned(), torch.inference_mode():
                yield
        except LabError:
            raise
        except Exception as error:  # tokenizers know no other class
            if lacks_memory(error):
                less = ["ask for a smaller size= or fewer frames="] if what != LOADED else ["use a larger machine"]
                ways = " or ".join([*less, *self._smaller])
                raise LabError(f"{self.name} cannot {what}, for there is too little memory: {ways}") from error
            reason = f"{reason_of(error):.300}"
            if isinstance(error, AttributeError):  # one part asks another for what that has not
                folder = self.config.folder
                raise LabError(
                    f"the parts of {folder} do not fit into a {self.class_name} ({reason}): save the pipeline again"
                ) from error
            ways = "" if what == LOADED else "ask for other size=, frames= or steps=, or "
            raise LabError(
                f"{self.class_name} of {self.config.folder} cannot {what} ({reason}): {ways}save the pipeline again"
            ) from error


def _plain(text: str) -> str:
    """As far as classes leave a text alone before they cut it."""
    return " ".join(text.lower().split())


def _listed(asked: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in asked.items())
