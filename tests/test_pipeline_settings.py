"""Damaged settings, indices and weights of pipelines: one sentence that names the file and what to do."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from t2v_models.config import LabError
from t2v_models.sampler import Frames, Request, sample_all
from t2v_models.weights import all_weights
from tasks.samplers import source
from tests.pretrained import pipeline_folder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("diffusers") is None, reason="the extra 'pretrained' is not installed"),
]
OBJECT = r"holds no object: save it with save_pretrained again"
AGAIN = ": save the pipeline again"
Change = Callable[[Path], object]


def clip(folder: Path) -> Frames:
    pipeline = source(f"diffusers:{folder},steps=1,frames=5,size=32").sampler
    return sample_all(pipeline, Request(("circle moving left",), (0,)))


@pytest.fixture
def wan(tmp_path: Path) -> Path:
    return pipeline_folder("wan", tmp_path)


def written(file: str, content: str) -> Change:
    return lambda folder: (folder / file).write_text(content)


def gone(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def folded(file: str) -> Change:
    """A folder in place of a file."""
    return lambda folder: ((folder / file).unlink(), (folder / file).mkdir())


def said(file: str, **values: Any) -> Change:
    """An object with other values, or without those that are None."""

    def change(folder: Path) -> None:
        found = json.loads((folder / file).read_text()) | values
        (folder / file).write_text(json.dumps({key: value for key, value in found.items() if value is not None}))

    return change


NET = "transformer/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(("change", "sentence"), [
    (written("transformer/config.json", "[]"), f"transformer/config.json {OBJECT}"),
    (written("text_encoder/config.json", "[]"), f"text_encoder/config.json {OBJECT}"),
    (gone("text_encoder/config.json"), "text_encoder lacks config.json: save it"),
    (gone("scheduler/scheduler_config.json"), "scheduler lacks scheduler_config.json: save it"),
    (said("transformer/config.json", num_layers="two"), f"transformer/config.json cannot be built as WanTr.*{AGAIN}"),
    (said("transformer/config.json", num_attention_heads=0), f"transformer/config.json cannot be built as .*{AGAIN}"),
    (said("vae/config.json", dim_mult=4), f"vae/config.json cannot be built as AutoencoderKLWan .*{AGAIN}"),
    (said("scheduler/scheduler_config.json", num_train_timesteps="x"), "scheduler_config.json cannot be built as Uni"),
    (written("tokenizer/tokenizer.json", "{"), f"wan/tokenizer cannot be built as T5Tokenizer .*{AGAIN}"),
    (lambda f: (f / "vae/diffusion_pytorch_model.safetensors").rename(f / "vae/own.safetensors"),
     "vae/config.json cannot be built as AutoencoderKLWan .*no file named diffusion_pytorch_model.safetensors"),
    (said("model_index.json", vae=None), "model_index.json names no vae, which WanPipeline needs: save it"),
    (said("model_index.json", tokenizer=None), "model_index.json names no tokenizer, which WanPipeline needs: save it"),
    (said("model_index.json", _class_name=None), "model_index.json names no class of a pipeline, as _class_name: save"),
    (said("model_index.json", scheduler=["diffusers", "DDIMScheduler"]),
     f"the parts of .* do not fit into a WanPipeline .*DDIMScheduler.*{AGAIN}"),
    (lambda f: (said("transformer/config.json", auto_map={"AutoModel": "own.Own"})(f),
                said("model_index.json", transformer=["diffusers", "AutoModel"])(f)),
     f"transformer/config.json cannot be built as AutoModel .it wants code of its own, which is never run.{AGAIN}"),
    (said("vae/config.json", latents_mean=["x"] * 16),
     "of .*wan cannot make a clip of .*: ask for other size=, frames= or steps=, or save the pipeline again"),
    (said("vae/config.json", base_dim=10**7), "cannot be loaded, for there is too little memory: use a larger machine"),
    (folded("model_index.json"), "model_index.json cannot be read .Is a directory.: save it"),
    (folded(NET), "transformer lacks its weights, a file of safetensors"),
])  # fmt: skip
def test_damaged_settings_are_one_sentence(
    change: Change, sentence: str, wan: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    change(wan)
    capfd.readouterr()
    with pytest.raises(LabError, match=sentence) as told:
        clip(wan)
    assert "\n" not in str(told.value) and "huggingface.co" not in str(told.value)
    assert capfd.readouterr() == ("", ""), "nobody else says a word"


@pytest.mark.parametrize("content", [
    "null", "{}", '{"weight_map": null}', '{"weight_map": []}', '{"weight_map": ["a"]}', '{"weight_map": {"a": 3}}',
    '{"weight_map": {"a": {"b": 1}}}', '{"a": {"b": 1}}',
])  # fmt: skip
def test_an_index_of_weights_of_another_form_is_one_sentence(content: str, tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(content)
    with pytest.raises(
        LabError, match=r"model.safetensors.index.json (does not say .*weight_map|holds no object).*: save"
    ):
        all_weights(index)


@pytest.mark.parametrize("kind", [torch.int8, torch.int64, torch.float8_e4m3fn])
def test_weights_that_were_made_small_are_not_taken_for_weights(kind: torch.dtype, wan: Path) -> None:
    tensors = load_file(wan / NET)
    save_file(tensors | {"proj_out.weight": tensors["proj_out.weight"].to(kind)}, wan / NET, {"format": "pt"})
    with pytest.raises(LabError, match="safetensors holds proj_out.weight as .*, made small in a way that is not read"):
        clip(wan)


def test_weights_that_are_not_read_are_told(wan: Path, caplog: pytest.LogCaptureFixture) -> None:
    exact = clip(wan)
    assert not caplog.records
    said("transformer/config.json", num_layers=1)(wan)
    assert not np.array_equal(clip(wan), exact)
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("WanTransformer3DModel of its config.json does not read 27 tensors in the files of"), told
    assert told.endswith("as blocks.1.attn1.norm_k.weight: if that cuts it short, save the pipeline again"), told


@pytest.mark.parametrize("size", [-16, 0])
def test_a_size_that_is_none_is_not_taken_from_settings(size: int, tmp_path: Path) -> None:
    folder = pipeline_folder("modelscope", tmp_path)
    said("unet/config.json", sample_size=size)(folder)
    with pytest.raises(LabError, match="has no height of its own: add size=64 and frames=9"):
        sample_all(source(f"diffusers:{folder},steps=1").sampler, Request(("circle moving left",), (0,)))
