"""Pipelines of diffusers as samplers: every family people use, tiny and random, and a sentence for what cannot be."""

import json
import re
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from flows.cli.main import main
from t2v_models.clips.media import load_npz
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.machine import has_bfloat16
from t2v_models.sampler import Request, is_uri, sample_all
from t2v_models.worlds.dataset import DatasetConfig
from tasks.fitted import fit
from tasks.play import player, show
from tasks.samplers import source
from tasks.subjects import subject
from tests.pretrained import PIPELINES, pipeline_folder
from tests.tiny import TINY

LEFT, RIGHT = "circle moving left", "circle moving right"
installed = pytest.mark.skipif(find_spec("diffusers") is None, reason="the extra 'pretrained' is not installed")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Saved pipelines by name, each made once."""
    whole = tmp_path_factory.mktemp("pipelines")

    def folder(name: str) -> Path:
        return whole / name if (whole / name).is_dir() else pipeline_folder(name, whole)

    return folder


def asked(*prompts: str, frames: int = 9, **wishes: Any) -> Request:
    return Request(prompts, tuple(range(len(prompts))), frames, (32, 32), **wishes)


LENGTHS = {"latte": 4, "mochi": 7, "zero": 2}
OPTIONS = {"zero": "steps=48"}
"""Text2Video-Zero moves in its 44th step."""


@installed
@pytest.mark.slow
@pytest.mark.parametrize("name", PIPELINES)
def test_every_family_makes_the_clip_of_its_prompt_and_seed(name: str, folders: Callable[[str], Path]) -> None:
    sampler = source(f"diffusers:{folders(name)},{OPTIONS.get(name, 'steps=2')}").sampler
    length, side = LENGTHS.get(name, 9), 16 if name == "zero" else 32
    request = Request((LEFT, LEFT, RIGHT), (0, 7, 0), length, (side, side))
    clips = sample_all(sampler, request)
    assert clips.shape == (3, length, side, side, 3) and clips.dtype == np.uint8
    assert np.abs(sample_all(sampler, request.part(0, 1))[0].astype(int) - clips[0]).max() <= 1
    assert len({clip.tobytes() for clip in clips}) == 3, "another seed and another prompt are other clips"


@installed
@pytest.mark.slow
def test_a_pipeline_is_generated_from_exported_and_played_with(
    folders: Callable[[str], Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wan, out = f"diffusers:{folders('wan')},steps=2,size=32,frames=9", tmp_path / "clips.npz"
    t2v("generate", wan, LEFT, "--count", 2, "--steps", 1, "--out", out, monkeypatch=monkeypatch)
    frames, prompts, seeds = load_npz(out)
    assert frames.shape == (2, 9, 32, 32, 3) and (prompts, seeds) == ([LEFT] * 2, [0, 1])
    t2v("export", wan, tmp_path / "films", "--like", data, "--count", 1, "--kind", "npz", monkeypatch=monkeypatch)
    assert (tmp_path / "films" / "000000001.txt").read_text().strip() == TINY.prompts[1]
    with np.load(tmp_path / "films" / "000000001.npz") as film:
        assert film["frames"].shape == TINY.spec.shape
    assert "0 of 2 right" in show([player(wan, tmp_path, TINY)], LEFT, 0, 2)
    with pytest.raises(LabError, match="knows no prompts to begin with: add --like"):
        player(wan, tmp_path)
    with pytest.raises(LabError, match="wan,.* knows no dataset to be judged by: add --like"):
        subject(wan)


def t2v(*arguments: object, monkeypatch: pytest.MonkeyPatch, code: int = 0) -> None:
    monkeypatch.setattr(sys, "argv", ["t2v", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code in (code, None)


def refused(name: object, sentence: str, request: Request | None = None) -> None:
    with pytest.raises(LabError, match=sentence) as said:
        sample_all(source(f"diffusers:{name}").sampler, request or asked(LEFT))
    assert "\n" not in str(said.value)


@installed
@pytest.mark.slow
def test_what_is_no_pipeline_is_one_sentence(
    folders: Callable[[str], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    wan = tmp_path / "wan"

    def changed(change: Callable[[], Any], sentence: str, options: str = "") -> None:
        """The whole folder, after `change`."""
        shutil.rmtree(wan, ignore_errors=True)
        shutil.copytree(folders("wan"), wan)
        change()
        refused(f"{wan}{options}", sentence)

    def index(**values: Any) -> Callable[[], Any]:
        def change() -> None:
            file = wan / "model_index.json"
            file.write_text(json.dumps(json.loads(file.read_text()) | values))

        return change

    folders("wan"), capfd.readouterr()  # what saving it says is not meant
    net, text = wan / "transformer/diffusion_pytorch_model.safetensors", wan / "text_encoder/model.safetensors"
    refused(tmp_path / "none", "there is no folder .*none: .*nothing is downloaded")
    refused("wan-ai/wan", "there is no folder wan-ai/wan")
    changed(lambda: (wan / "model_index.json").unlink(), "holds no model_index.json, so it is no pipeline")
    changed(lambda: (wan / "model_index.json").write_text("{"), "model_index.json is no JSON")
    changed(index(_class_name="OwnPipeline"), "wants the class OwnPipeline, which diffusers .* has not: code that lies")
    changed(index(_class_name=["own", "OwnPipeline"]), "wants the class .*own.*: code that lies in folders is never")
    changed(index(vae=["own", "OwnVAE"]), "has its vae from own: parts of diffusers and transformers only")
    changed(index(vae=["os", "system"]), "has its vae from os: parts")
    changed(index(_class_name="StableDiffusionPipeline"), "StableDiffusionPipeline in .* makes no clips")
    changed(index(_class_name="WanImageToVideoPipeline"), "WanImageToVideoPipeline in .* needs image: name a pipeline")
    changed(lambda: shutil.rmtree(wan / "vae"), "lacks the folder vae, which its model_index.json names")
    changed(lambda: net.unlink(), "transformer lacks its weights, a file of safetensors")
    changed(lambda: net.rename(net.with_suffix(".bin")), r"are diffusion_pytorch_model.bin, which can run any program")
    changed(
        lambda: net.write_bytes(net.read_bytes()[:-1]), "model.safetensors has .* bytes and should have .*: copy it"
    )
    changed(lambda: net.write_bytes(b"no weights"), "is no file of safetensors: copy it again")
    several = json.dumps({"weight_map": {"a": "model-00001-of-00002.safetensors"}})
    changed(lambda: (text.unlink(), text.with_suffix(".safetensors.index.json").write_text(several)),
            "lacks model-00001-of-00002.safetensors, which model.safetensors.index.json names: copy")  # fmt: skip

    def without(file: Path, key: str) -> Callable[[], None]:
        def change() -> None:
            tensors = load_file(file)
            del tensors[key]
            save_file(tensors, file, {"format": "pt"})

        return change

    changed(without(text, "encoder.final_layer_norm.weight"),
            "text_encoder lack 1 of .* tensors of UMT5EncoderModel, as .*final_layer_norm.weight: copy")  # fmt: skip
    changed(without(net, "proj_out.weight"), "transformer lack 1 of .* tensors of WanTr.*, as proj_out.weight: copy")

    def huge() -> None:
        header = json.dumps({"w": {"dtype": "F16", "shape": [1 << 42], "data_offsets": [0, 1 << 43]}}).encode()
        with net.open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            file.truncate(8 + len(header) + (1 << 43))  # a hole: it takes no space

    changed(huge, r"of wan,dtype=float16 need 8.8 TB in float16 and .* are free: try a machine with", ",dtype=float16")
    half = "bfloat16" if has_bfloat16() else "float16"
    changed(
        huge,
        f"the weights of wan need 17.6 TB in float32 and .* are free: try dtype={half} or a machine",
        ",device=cpu",
    )
    assert capfd.readouterr() == ("", "")


@installed
@pytest.mark.slow
def test_what_a_pipeline_cannot_be_asked_for_is_one_sentence(folders: Callable[[str], Path]) -> None:
    wan, latte = folders("wan"), folders("latte")
    refused(f"{wan},step=2", "says step=, which is no option of a pipeline: did you mean 'steps'")
    refused(f"{wan},steps=0", "steps: should be greater than or equal to 1 .found '0'")
    refused(f"{wan},size=big", "size= 'big' is no size: write 64 or, width first, 64x36")
    refused(f"{wan},dtype=int8", "dtype: should be 'float32'")
    refused(f"{wan},device=cpu,offload=model", "offload=model keeps weights from a GPU and this machine has none")
    first = np.zeros((1, 1, 32, 32, 3), np.uint8)
    refused(f"{wan},steps=1", "cannot take frames that are known", asked(LEFT, known_frames=first))
    odd = Request((LEFT,), (0,), 9, (30, 30))
    refused(
        f"{wan},steps=1",
        "WanPipeline of .*wan cannot make a clip of height 30.*divisible by 16.*: ask for other size=",
        odd,
    )
    refused(f"{wan},steps=1", "wan,steps=1 makes 9 frames and not 10: ask for so many", asked(LEFT, frames=10))
    refused(f"{wan},steps=1,size=32,frames=8", "makes 9 frames and not 8: ask for so many", Request((LEFT,), (0,)))
    refused(f"{wan},steps=1", "cannot take a motion: leave --motion out", asked(LEFT, motion=(1.0, 0.0)))
    refused(f"{wan},steps=1", "cannot take a temperature: leave", asked(LEFT, temperature=0.5))
    refused(f"{latte},steps=1", "cannot make a clip of .*video_length 9", asked(LEFT))


@installed
@pytest.mark.slow
def test_weights_of_a_variant_alone_are_read(folders: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(folders("wan"), tmp_path / "wan")
    for file in (tmp_path / "wan").rglob("*.safetensors"):
        file.rename(file.with_suffix(".fp16.safetensors"))
    ours, theirs = (source(f"diffusers:{f},steps=1").sampler for f in (tmp_path / "wan", folders("wan")))
    assert np.array_equal(sample_all(ours, asked(LEFT)), sample_all(theirs, asked(LEFT)))


@installed
@pytest.mark.slow
def test_pieces_of_words_are_read_as_t5_is_published(folders: Callable[[str], Path], tmp_path: Path) -> None:
    trainer = pytest.importorskip("sentencepiece").SentencePieceTrainer
    shutil.copytree(folders("wan"), tmp_path / "wan")
    (tmp_path / "wan/tokenizer/tokenizer.json").unlink()
    with (tmp_path / "wan/tokenizer/spiece.model").open("wb") as file:
        trainer.train(
            sentence_iterator=iter([LEFT, RIGHT] * 50), model_writer=file, vocab_size=30, hard_vocab_limit=False,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
        )  # fmt: skip
    clips = sample_all(source(f"diffusers:{tmp_path / 'wan'},steps=1").sampler, asked(LEFT, RIGHT))
    assert clips[0].tobytes() != clips[1].tobytes()


@pytest.mark.skipif(find_spec("diffusers") is not None, reason="the extra 'pretrained' is installed")
def test_without_the_extra_it_is_said_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=re.escape("pip install 't2v-lab[pretrained]'")):
        source(f"diffusers:{tmp_path}")


def test_a_pipeline_is_no_uri() -> None:
    assert is_uri("models:/t2v-gan@champion") and not is_uri("diffusers:/models/wan") and not is_uri("runs/a")


def test_clips_of_another_form_become_those_of_a_dataset() -> None:
    """A square that crosses a wide clip: its middle is kept, at evenly spaced moments, in its colour."""
    clip = np.full((21, 64, 128, 3), (250, 240, 230), np.uint8)
    for t in range(21):
        clip[t, 24:40, 32 + 2 * t : 48 + 2 * t] = 10, 20, 200
    data = DatasetConfig(spec=ClipSpec(size=32, frames=6))
    found = fit(clip, data.spec)
    assert found.shape == data.spec.shape
    dark = found[..., 0] < 128
    places = np.array([np.argwhere(frame).mean(0) for frame in dark])
    assert np.allclose(places[:, 0], 15.5) and np.allclose(places[:, 1], 3.5 + 4 * np.arange(6), atol=0.3)
    assert np.allclose(found[0, 0, 0], (250, 240, 230)) and np.allclose(found[0, 15, 3], (10, 20, 200), atol=2)
    held = fit(clip[:2], data.spec)
    assert np.array_equal(held[:3], held[[0, 0, 0]]) and np.array_equal(held[3:], held[[5, 5, 5]])
