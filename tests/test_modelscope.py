"""ModelScope's architecture trained here: a run of `modelscope` is a pipeline that others load."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from t2v_models import library
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.standardise import cosines
from t2v_models.families.modelscope.latents import Changes
from t2v_models.families.modelscope.model import ModelscopeConfig
from t2v_models.families.modelscope.words import tokenizer_of
from t2v_models.generate import load_run
from t2v_models.sampler import Request, sample_all
from t2v_models.text.split import words
from tasks.mlflow.registry import requirements
from tasks.samplers import source
from tests.commands import t2v
from tests.runs import SMALL, built, train

LEFT, DIAGONAL = "circle moving left", "Circle  moving diagonally up-left!"
pytestmark = pytest.mark.skipif(find_spec("diffusers") is None, reason="the extra 'pretrained' is not installed")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modelscope") / "run"
    train(data, folder, 2, "modelscope")
    return folder


@pytest.fixture(scope="module")
def pipeline(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modelscope") / "pipeline"
    t2v("export", run, folder, "--kind", "diffusers")
    return folder


def test_a_run_makes_the_same_clips_as_a_pipeline_without_this_package(run: Path, pipeline: Path) -> None:
    parts = [
        part for part in json.loads((pipeline / "model_index.json").read_text()).values() if isinstance(part, list)
    ]
    assert {package for package, _ in parts} == {"diffusers", "transformers"} and len(parts) == 5
    assert not [file for file in pipeline.rglob("*") if file.suffix not in (".safetensors", ".json", ".md", "")]
    ours = sample_all(load_run(run), Request((LEFT, DIAGONAL), (3, 8))).astype(int)
    theirs = library.of("diffusers", "DiffusionPipeline").from_pretrained(pipeline)
    theirs.set_progress_bar_config(disable=True)
    for clip, prompt, seed in zip(ours, (LEFT, DIAGONAL), (3, 8), strict=True):
        with library.unwarned():
            made = theirs(
                prompt, num_frames=6, num_inference_steps=2, guidance_scale=8,
                generator=torch.Generator().manual_seed(seed),
            ).frames[0]  # fmt: skip
        assert np.abs(255 * made - clip).max() <= 1
    assert np.abs(ours[0] - ours[1]).max() > 1


def test_the_card_says_how_to_ask_for_the_same_clips_here(run: Path, pipeline: Path) -> None:
    card = (pipeline / "README.md").read_text()
    name = next(word for word in card.split() if word.startswith("diffusers:FOLDER")).replace("FOLDER", str(pipeline))
    found = sample_all(source(name).sampler, Request((DIAGONAL,), (8,))).astype(int)
    assert np.abs(found - sample_all(load_run(run), Request((DIAGONAL,), (8,)))).max() <= 1
    with pytest.raises(LabError, match="TextToVideoSDPipeline of .* cannot make a clip of .*WordLevel error: Missing"):
        sample_all(source(name).sampler, Request(("circle moving sideways",), (8,)))


def test_what_cannot_be_a_pipeline_is_one_sentence(
    run: Path, pipeline: Path, data: Path, tmp_path: Path, capsys
) -> None:
    def refused(sentence: str, *arguments: object) -> None:
        with pytest.raises(AssertionError, match="^2"):
            t2v("export", *arguments)
        assert sentence in " ".join(capsys.readouterr().err.split())

    train(data, tmp_path / "gan", 1, "gan")
    refused("is a run of gan, whose networks are none of diffusers: --kind diffusers takes runs of modelscope",
            tmp_path / "gan", tmp_path / "out", "--kind", "diffusers")  # fmt: skip
    refused("is a dataset: train a model", data, tmp_path / "out", "--kind", "diffusers")
    refused("holds other files (README.md): choose an empty folder", run, pipeline, "--kind", "diffusers")
    refused("unknown kind 'difusers': did you mean 'diffusers'?", data, tmp_path / "out", "--kind", "difusers")
    assert not (tmp_path / "out").exists()


def test_the_autoencoder_of_a_pipeline_makes_standard_latents_itself(run: Path) -> None:
    model = load_run(run)
    video = torch.rand(2, 3, 6, 16, 16) * 2 - 1
    pictures = video.transpose(1, 2).flatten(0, 1)
    with torch.no_grad():
        latents = model.standard(model.autoencoder.latents(video)).transpose(1, 2).flatten(0, 1)
        folded = model.standard.folded(model.autoencoder.network)
        own, theirs = model.autoencoder.network.encode(pictures).latent_dist, folded.encode(pictures).latent_dist
        torch.testing.assert_close(theirs.mean, latents, rtol=1e-4, atol=1e-4)
        size = model.standard.std.view(1, -1, 1, 1)
        torch.testing.assert_close(theirs.std, own.std / size, rtol=1e-4, atol=1e-4)
        again = folded.decode(latents).sample
        torch.testing.assert_close(again, model.autoencoder.network.decode(own.mean).sample, rtol=1e-4, atol=1e-4)


def test_it_reads_as_many_words_as_the_longest_caption_has_and_looks_at_them_everywhere() -> None:
    assert SMALL["modelscope"].with_captions([LEFT, DIAGONAL]).tokens == 5 + 2
    kinds = built(SMALL["modelscope"], ClipSpec(size=16, frames=4), [LEFT]).denoiser.unet.config.down_block_types
    assert set(kinds) == {"CrossAttnDownBlock3D"}


def test_its_first_batch_has_standard_latents() -> None:
    model = built(SMALL["modelscope"], ClipSpec(size=16, frames=4), [LEFT])
    count = model.autoencoder.config.latent
    latents = 3 + 5 * torch.randn(8, count, 4, 4, 4)
    model.standard.measure(latents)
    found = model.standard(latents).transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.mean(1), torch.zeros(count), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.std(1, correction=0), torch.ones(count))


def test_errors_that_change_from_frame_to_frame_count_as_if_latents_changed_as_much_as_they_stay() -> None:
    torch.manual_seed(0)
    latents = 3 * torch.randn(64, 4, 1, 4, 4) + torch.randn(64, 4, 8, 4, 4)
    changes = Changes(8, balance=0.5)
    plain = latents.square().mean((1, 2, 3, 4))
    torch.testing.assert_close(changes.squares(latents), plain)
    changes.measure(latents)
    torch.testing.assert_close(changes.squares(latents).mean(), plain.mean())
    still, quick = (wave.view(1, 1, 8, 1, 1).expand(1, 4, 8, 4, 4) for wave in cosines(8)[[0, 7]])
    ratio = float(changes.squares(quick) / changes.squares(still))
    assert ratio == pytest.approx((8 * 9 + 1) ** 0.5, rel=0.05)


def test_where_it_is_served_its_packages_are_installed() -> None:
    others = requirements(SMALL["gan"])
    assert {line.split("==")[0] for line in {*requirements(SMALL["modelscope"])} - {*others}} == {*library.PACKAGES}


def test_its_tokenizer_reads_words_as_we_do() -> None:
    said = ("Ein Kreis, der nach-links fährt!", "円が左へ", "a\tdog  runs…", "ＣＩＲＣＬＥ 2")
    known = sorted({word for caption in said for word in words(caption)})
    tokenizer = tokenizer_of(known, 12)
    for caption in said:
        plain = tokenizer(" ".join(words(caption)), padding="max_length").input_ids
        assert [known[number - 2] for number in plain if number > 1] == words(caption)
        if "円" not in caption:  # text without spaces is cut by us alone
            assert tokenizer(caption, padding="max_length").input_ids == plain


def test_what_it_cannot_read_or_make_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    small = SMALL["modelscope"]
    with pytest.raises(LabError, match="has 15 words, modelscope reads 14: set words=15"):
        small.model_copy(update={"words": 14}).with_captions([LEFT, "very " * 15])
    with pytest.raises(ValidationError, match="leave text_encoder out"):
        ModelscopeConfig.model_validate({"text_encoder": "static"})
    with pytest.raises(LabError, match="multiples of 8 px and the dataset's are of 64x36 px"):
        small.for_shapes([ClipSpec(height=36, width=64)])
    with pytest.raises(LabError, match="frame_autoencoder halves frames 4 times, and 40 px are no multiple of 16"):
        built(SMALL["frame_autoencoder"].model_copy(update={"widths": (8,) * 5}), ClipSpec(size=40), [LEFT])
    model = built(small, ClipSpec(size=16, frames=4), [LEFT])
    for wishes, sentence in (
        ({"guidance": 0.5}, "takes guidance from 1"),
        ({"steps": 0}, "makes a clip in 1 step or more"),
        ({"steps": 1001}, "makes a clip in 1 to 1,000"),
    ):
        with pytest.raises(LabError, match=sentence):
            model.check(Request((LEFT,), (0,), **wishes))
    with pytest.raises(LabError, match="reads 3 words, prompt .* has more: shorten it"):
        model.check(Request(("left " * 15,), (0,)))
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(LabError, match="modelscope needs diffusers and transformers.*'t2v-lab.pretrained.'"):
        small.with_captions([LEFT])
