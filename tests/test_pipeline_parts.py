"""Parts of pipelines of diffusers: every weight is in its files by name, and an index tells the class of each."""

import json
import re
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from flows.cli.main import main
from t2v_models.config import LabError
from t2v_models.families.pretrained.config import PipelineConfig
from t2v_models.machine import has_bfloat16
from t2v_models.sampler import Frames, Request, sample_all
from tasks.play import player
from tasks.samplers import source
from tests.pretrained import pipeline_folder
from tests.tiny import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("diffusers") is None, reason="the extra 'pretrained' is not installed"),
]
Tensors = dict[str, torch.Tensor]
NORM = "final_layer_norm.weight"


def clip(folder: Path, options: str = "steps=1,frames=2,size=32") -> Frames:
    return sample_all(source(f"diffusers:{folder},{options}").sampler, Request(("circle moving left",), (0,)))


def refused(folder: Path, sentence: str, options: str = "steps=1,frames=2,size=32") -> None:
    with pytest.raises(LabError, match=sentence) as said:
        clip(folder, options)
    assert "\n" not in str(said.value) and "low_cpu_mem_usage" not in str(said.value)


def rewrite(file: Path, change: Callable[[Tensors], Tensors]) -> None:
    save_file(change(load_file(file)), file, {"format": "pt"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of ModelScope's class."""
    return pipeline_folder("modelscope", tmp_path)


def renamed(change: Callable[[str], str]) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {change(name): tensor for name, tensor in tensors.items()}


def prefixed(name: str) -> str:
    return name.removeprefix("text_model.") if name.startswith("text_model.") else f"text_model.{name}"


def test_weights_of_other_names_are_missing_and_those_of_old_names_are_not(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = folder / "text_encoder/model.safetensors"
    whole, exact = load_file(file), clip(folder)
    rewrite(file, renamed(lambda name: f"zz.{name}"))
    refused(
        folder, "text_encoder lack 20 of 20 tensors of CLIPTextModel, as embeddings.position_embedding.weight: copy"
    )
    rewrite(file, lambda _: {("zzz" if name.endswith(NORM) else name): tensor for name, tensor in whole.items()})
    refused(folder, f"text_encoder lack 1 of 20 tensors of CLIPTextModel, as {NORM}: copy them again")
    rewrite(file, lambda _: renamed(prefixed)(whole))
    assert np.array_equal(clip(folder), exact), "with and without the prefix of its base"
    assert not caplog.records
    rewrite(file, lambda _: whole | {"text_model.embeddings.position_ids": torch.arange(77)[None]})
    assert np.array_equal(clip(folder), exact) and not caplog.records, "older files hold numbers of places"


def test_tied_weights_may_have_either_name(tmp_path: Path) -> None:
    wan = pipeline_folder("wan", tmp_path)
    options, shared = "steps=1,frames=5,size=32", {"shared.weight": "encoder.embed_tokens.weight"}
    exact = clip(wan, options)
    rewrite(wan / "text_encoder/model.safetensors", renamed(lambda name: shared.get(name, name)))
    assert np.array_equal(clip(wan, options), exact)
    rewrite(wan / "text_encoder/model.safetensors",
            lambda tensors: {name: one for name, one in tensors.items() if "embed_tokens" not in name})  # fmt: skip
    refused(wan, "text_encoder lack 2 of .* tensors of UMT5EncoderModel, as encoder.embed_tokens.weight", options)


@pytest.mark.parametrize(("file", "name"), [
    ("unet/diffusion_pytorch_model", "conv_in.weight"), ("text_encoder/model", NORM),
])  # fmt: skip
def test_a_weight_of_another_shape_is_named_with_both(file: str, name: str, folder: Path) -> None:
    rewrite(folder / f"{file}.safetensors", lambda tensors: tensors | {name: tensors[name][:4].clone()})
    refused(folder, rf"{name} has the shape \(4.*\), and .* of its config.json wants \(.*\): copy the folder again")


def index(folder: Path, **values: Any) -> None:
    file = folder / "model_index.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("said", [["a", "b", "x"], ["diffusers"], [], "x", 3, ["diffusers", 1], [None, "x"], {}])
def test_an_index_of_another_form_is_one_sentence(said: Any, folder: Path) -> None:
    index(folder, unet=said)
    refused(folder, r'model_index.json says .* of unet, and a part is \["package", "class"\]: save it')


@pytest.mark.parametrize(("values", "sentence"), [
    ({"unet": [None, None]}, "has no unet, which TextToVideoSDPipeline needs: save it"),
    ({"unet": None}, "has no unet, which TextToVideoSDPipeline needs: save it"),
    ({"unet": ["diffusers", "NoSuchModel"]}, "wants the class NoSuchModel for its unet, which diffusers .* has not"),
    ({"_class_name": "UNet3DConditionModel"}, "is of the class UNet3DConditionModel, which is no pipeline: name"),
])  # fmt: skip
def test_what_an_index_names_must_be_there(values: Any, sentence: str, folder: Path) -> None:
    index(folder, **values)
    refused(folder, sentence)


def test_a_tokenizer_without_words_or_lengths_is_one_sentence(folder: Path) -> None:
    (folder / "tokenizer/tokenizer_config.json").unlink()
    refused(folder, "its tokenizer does not say how long texts may be: copy tokenizer_config.json again")
    for file in (folder / "tokenizer").iterdir():
        file.unlink()
    refused(folder, "tokenizer lacks its words, one of merges.txt, tokenizer.json, vocab.json: copy it again")


def test_colours_that_are_no_numbers_are_told_by_what_can_help(folder: Path) -> None:
    rewrite(folder / "unet/diffusion_pytorch_model.safetensors",
            lambda tensors: tensors | {"conv_out.weight": tensors["conv_out.weight"] * torch.nan})  # fmt: skip
    refused(folder, "no numbers in float32: its weights are damaged, or steps= or guidance= suit it ill")
    other = ", or bfloat16 in place of float16" if has_bfloat16() else "$"
    refused(folder, f"no numbers in float16: use dtype=float32{other}", "steps=1,frames=2,size=32,dtype=float16")


def test_steps_too_few_to_move_are_named(tmp_path: Path) -> None:
    zero = pipeline_folder("zero", tmp_path)
    refused(zero, "TextToVideoZeroPipeline of zero,.* moves in its step 47: ask for steps=48 or more",
            "steps=47,frames=2,size=16")  # fmt: skip


@pytest.mark.parametrize(("options", "sentence"), [
    (",steps=1,steps=2", "says steps= twice: leave one out"),
    (",steps=1,guidance=-1", "guidance: .*greater than or equal to 0"),
    (",steps=1,folder=/x", "says folder=, and the folder stands before the first comma: leave it out"),
])  # fmt: skip
def test_options_that_mean_nothing_are_one_sentence(options: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(LabError, match=sentence):
        source(f"diffusers:{tmp_path}{options}")


@pytest.mark.parametrize("name", ["diffusers:", "diffusers:,steps=1", "diffusers:steps=1"])
def test_a_pipeline_without_a_folder_is_one_sentence(name: str) -> None:
    with pytest.raises(LabError, match=f"{name} names no folder: write diffusers:FOLDER"):
        source(name)


def test_numbers_that_a_network_keeps_beside_its_weights_must_be_there(tmp_path: Path) -> None:
    """LTX multiplies what its autoencoder gives by deviations that are no weights, but lie in its file."""
    ltx, options = pipeline_folder("ltx", tmp_path), "steps=1,frames=9,size=32"
    file = ltx / "vae/diffusion_pytorch_model.safetensors"
    whole = load_file(file)
    rewrite(file, lambda _: {name: one for name, one in whole.items() if name != "latents_std"})
    refused(ltx, "vae lack 1 of 58 tensors of AutoencoderKLLTXVideo, as latents_std: copy them again", options)
    rewrite(file, lambda _: {name.replace("latents_", "lat_"): one for name, one in whole.items()})
    refused(ltx, "vae lack 2 of 58 tensors of AutoencoderKLLTXVideo, as latents_mean: copy them again", options)


LONG = "a long prompt " * 40


@pytest.mark.parametrize(("name", "options", "tokenizers"), [
    ("latte", "frames=4", {"tokenizer": "120"}),  # written in the code of its class only
    ("hunyuan", "frames=9", {"tokenizer": r"\d+", "tokenizer_2": "77"}),
])  # fmt: skip
def test_each_tokenizer_that_cuts_a_prompt_is_named(
    name: str, options: str, tokenizers: dict[str, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pipeline = source(f"diffusers:{pipeline_folder(name, tmp_path)},steps=1,size=32,{options}").sampler
    sample_all(pipeline, Request((LONG,) * 2, (0, 1)))
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == len(tokenizers)
    for tokenizer, most in tokenizers.items():
        start = f"prompts are cut to the {most} tokens that the {tokenizer} of {name},steps=1,.*; 'a long prompt"
        assert any(re.match(start, line) for line in told), told


def test_a_negative_prompt_that_is_cut_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = source(f"diffusers:{folder},steps=1,frames=2,size=32").sampler
    sample_all(pipeline, Request(("red",), (0,), avoid=LONG, guidance=2.0))
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("negative prompts are cut to the 77 tokens that the tokenizer of modelscope,"), told


def test_a_prompt_that_is_cut_is_told_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    sampler = source(f"diffusers:{folder},steps=1,frames=2,size=32").sampler
    with pytest.raises(LabError, match="the guidance is -1: give 0 or more"):
        sample_all(sampler, Request(("red",), (0,), guidance=-1.0))
    sample_all(sampler, Request(("red",), (0,)))
    assert not caplog.records
    sample_all(sampler, Request(("a long prompt " * 20,) * 2, (0, 1)))
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith("prompts are cut to the 77 tokens that the tokenizer of modelscope,") and told.endswith(
        "has 222"
    ), told


def test_commands_that_need_a_run_say_that_a_pipeline_is_none(
    folder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"diffusers:{folder}"
    for arguments, sentence in (
        (("export", name, tmp_path / "out", "--kind", "diffusers"), "is a pipeline of diffusers and no run trained"),
        (("tune", name, tmp_path, "red", "--out", tmp_path / "out"), "is a pipeline of diffusers and no run trained"),
        (("compare", name, name), f"has no evaluation: run 't2v evaluate {name} --like DATA' first"),
    ):
        monkeypatch.setattr(sys, "argv", ["t2v", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        error = capsys.readouterr().err
        assert ended.value.code == 2 and sentence in error and len(error.splitlines()) == 1, error


@pytest.mark.parametrize("command", ["generate", "evaluate", "export", "play", "compare"])
def test_help_tells_of_pipelines_and_what_they_need(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["t2v", command, "--help"])
    with pytest.raises(SystemExit):
        main()
    told = " ".join(re.sub(r"[^\w:'-]", " ", capsys.readouterr().out).split())
    assert "diffusers:FOLDER" in told and "extra 'pretrained'" in told, told
    if command in ("generate", "evaluate", "export"):
        assert all(f" {name} " in told for name in PipelineConfig.model_fields if name != "folder"), told


def test_what_nobody_asked_for_is_told_before_it_is_made(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    pipeline = source(f"diffusers:{folder},steps=1,frames=2,device=cpu").sampler
    for _ in range(2):
        sample_all(pipeline, Request(("red",), (0,)))
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.endswith("makes 2 frames of 32 x 32 px in 1 steps, as its class does: for others add size=, frames=, "
                         "steps="), told  # fmt: skip


def test_prompts_of_a_pipeline_are_those_of_the_dataset(folder: Path, tmp_path: Path) -> None:
    who = player(f"diffusers:{folder}", tmp_path, TINY)
    assert who.prompts == TINY.prompts
    assert who.labels == ("Prompts of the dataset", "Prompts that the dataset keeps from training")
