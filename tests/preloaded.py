"""The classes of others that families are built of, for the server that processes of ranks are forked from."""

from importlib.util import find_spec

from t2v_models import library

if all(map(find_spec, library.PACKAGES)):
    for name in ("AutoencoderKL", "DPMSolverMultistepScheduler", "UNet3DConditionModel"):
        library.of("diffusers", name)
    for name in ("CLIPTextConfig", "CLIPTextModel", "PreTrainedTokenizerFast"):
        library.of("transformers", name)
