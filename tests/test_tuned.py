"""One clip is learnt by an image model; what may learn, what looks where, and clips that cannot be used."""

from pathlib import Path

import numpy as np
import pytest
import torch

from t2v_models.batch import Batch, to_frames, to_video
from t2v_models.clips.media import to_gif, to_webp
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.diffusion.motion import in_motion, shifted
from t2v_models.families.diffusion.tuned import Tuned, TunedConfig
from t2v_models.model import FamilyConfig
from t2v_models.sampler import Request
from t2v_models.shards.export import to_npz
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.one_clip import dataset_of, read_clip
from t2v_models.shards.store import ClipStore
from tests.runs import SMALL, built
from tests.tiny import put_frames, smooth

SPEC = ClipSpec(size=16, frames=5)
CAPTIONS = ("a dog runs", "a cat sleeps")
CLIP = smooth(0, 5, 16, 16)


def tuned(image: FamilyConfig = SMALL["image_model"], **changes: object) -> Tuned:
    torch.manual_seed(0)
    model = TunedConfig.tiny().model_copy(update=changes).build(SPEC, {"image": built(image, SPEC, CAPTIONS)})
    assert isinstance(model, Tuned)
    return model


def test_queries_and_attention_over_frames_learn_and_nothing_else() -> None:
    names = {name for name in tuned().names if "modulate" not in name and "when" not in name}
    ends = {name.removeprefix("network.").removesuffix(".weight").removesuffix(".bias") for name in names}
    time = {
        f"{stage}.attention.{part}" for stage in ("down.0", "down.1", "up.0") for part in ("query", "pair", "leave")
    }
    places = {f"{stage}.places.attention.query" for stage in ("down.0", "down.1", "up.0")}
    assert ends == time | places | {"to_text.attention.query"}


def test_noise_laid_over_the_clip_is_drawn_by_a_seed_and_little_of_it_keeps_the_clip() -> None:
    image = SMALL["image_model"].model_copy(update={"base_size": 16})
    apart = []
    for noise in (0.06, 8.0):
        model = tuned(image, noise=noise)
        model.see(to_video(CLIP[None]))
        made = to_frames(model.make(Request(("a dog runs",) * 2, (0, 1)))).astype(int)
        assert not np.array_equal(*made)
        apart.append(np.abs(made - CLIP).mean())
    assert 3 * apart[0] < apart[1]


def test_contrast_is_of_what_a_prompt_says_otherwise_than_the_caption_of_the_clip() -> None:
    caption = TunedConfig.tiny().with_captions(CAPTIONS[:1]).caption
    for prompt, same in zip(CAPTIONS, (True, False), strict=True):
        made = []
        for contrast in (0.0, 4.0):
            model = tuned(contrast=contrast, caption=caption)
            model.see(to_video(CLIP[None]))
            made.append(model.make(Request((prompt,), (0,))))
        assert torch.allclose(*made, atol=1e-4) == same


def test_captions_in_words_that_the_image_model_does_not_know_are_refused() -> None:
    with pytest.raises(LabError, match="'bird'"):
        tuned().training_step(Batch(torch.from_numpy(CLIP[None]), ("a bird runs",)), 0, 0.0)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (SMALL["gan"], "is a run of gan: name one of diffusion with --set image=RUN"),
        (SMALL["diffusion"], "is a diffusion of clips, not of images: train one with --set images=1"),
        (
            SMALL["image_model"].model_copy(update={"space_attention": False}),
            "has no attention within frames, .* train it with --set network=factorised --set space_attention=true",
        ),
    ],
)
def test_what_cannot_be_tuned_is_one_sentence(image: FamilyConfig, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        tuned(image)


def test_what_moves_by_whole_pixels_keeps_them() -> None:
    pictures = torch.rand(2, 3, 8, 10)
    assert torch.allclose(shifted(pictures, 2, -1)[:, :, :7, 2:], pictures[:, :, 1:, :8], atol=1e-5)
    assert not shifted(pictures, 2, -1)[..., :2].any()


def test_frames_of_a_moving_picture_have_noise_of_one_deviation() -> None:
    clean, noise = torch.zeros(1, 1, 1, 64, 64), torch.randn(1, 1, 1, 64, 64)
    clip = in_motion(clean, noise, 4, (0.5, 1.3))
    assert torch.allclose(clip.std((3, 4)), noise.std((3, 4)).expand(1, 1, 4))


def test_pictures_of_an_image_model_move_as_asked() -> None:
    model = built(SMALL["image_model"], SPEC, CAPTIONS)
    request = Request(("a dog runs",), (3,), motion=(1.0, 0.0))
    assert model.sample(request).shape == (1, *SPEC.shape)
    assert not np.array_equal(model.sample(request), model.sample(Request(("a dog runs",), (3,), motion=(0.0, 0.0))))


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (Request(("a dog runs",), (3,), frames=1, motion=(1.0, 0.0)), "a motion is seen from 2 frames on"),
        (Request(("a dog runs",), (3,), motion=(float("nan"), 0.0)), "a motion of nan and 0 px a frame"),
        (
            Request(("a dog runs",), (3,), known_frames=CLIP[None, :1], motion=(1.0, 0.0)),
            "leave --first-frame or --motion out",
        ),
    ],
)
def test_motions_that_cannot_be_are_one_sentence(request_: Request, sentence: str) -> None:
    with pytest.raises(LabError, match=sentence):
        built(SMALL["image_model"], SPEC, CAPTIONS).check(request_)


def test_a_clip_is_read_from_any_kind_of_file_and_kept_to_the_pixel(tmp_path: Path) -> None:
    for suffix, content in ((".npz", to_npz(CLIP, 10)), (".webp", to_webp(CLIP, 10))):
        (tmp_path / f"clip{suffix}").write_bytes(content)
        assert np.array_equal(read_clip(tmp_path / f"clip{suffix}", SPEC), CLIP)
    put_frames(tmp_path / "frames", CLIP)
    assert np.array_equal(read_clip(tmp_path / "frames", SPEC), CLIP)
    for _ in range(2):  # the second time it is there
        store = ClipStore(Manifest.load(dataset_of(CLIP, "a dog runs", 10, tmp_path / "data")))
        assert store.captions == ("a dog runs",) and np.array_equal(store.frames([0])[0], CLIP)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no clip .*: name an .mp4, .gif"),
        (b"no film at all", "cannot be read as a clip"),
        (b"", "cannot be read as a clip .the file is empty.: write it again"),
        (to_gif(CLIP[:1], 10), "has 1 frames at 10 frames per second: a motion is learnt from 2 to 256"),
        (to_gif(smooth(0, 5, 16, 24), 10), "is 24 x 16 px, the model makes 16 x 16: scale it to that"),
    ],
)
def test_a_clip_that_cannot_be_used_is_one_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    path = tmp_path / "clip.gif"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LabError, match=sentence):
        read_clip(path, SPEC)
