"""Text encoders: tokens in order with their places, bags, and what each refuses."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from t2v_models.batch import Batch
from t2v_models.clips.spec import ClipSpec
from t2v_models.config import LabError
from t2v_models.families.build import FAMILIES
from t2v_models.families.diffusion.model import DiffusionConfig
from t2v_models.sampler import RoundTrip, sample_frames
from t2v_models.text.pieces import START, Pieces
from t2v_models.text.split import words as split_words
from t2v_models.text.static import StaticConfig
from t2v_models.text.words import Words, WordsConfig
from tests.runs import built

ONE, OTHER = "red circle left of blue square", "blue circle left of red square"
VOCABULARY = ("blue", "circle", "left", "of", "red", "square")


def test_tokens_keep_the_order_of_words_and_the_mask_says_where_there_are_some():
    text = Words(VOCABULARY)(["left of blue square", "red"])
    assert text.embeddings.shape == (2, 4, 6) and text.mask.tolist() == [[True] * 4, [True, False, False, False]]
    assert text.embeddings.argmax(2)[0].tolist() == [2, 3, 0, 5]
    assert text.embeddings.sum(2).tolist() == [[1, 1, 1, 1], [1, 0, 0, 0]]


def test_words_of_ascii_are_those_of_any_text():
    """Which are found in a shorter way."""
    for i in range(128):
        said = f"A{chr(i)}b"
        assert split_words(said) == split_words(f"{said} é")[:-1], i


def test_a_bag_cannot_tell_what_tokens_with_places_can():
    bag, placed = Words(VOCABULARY), Words(VOCABULARY, positions=4)
    assert torch.equal(bag.pooled([ONE]), bag.pooled([OTHER]))
    one, other = placed([ONE, OTHER]).embeddings
    assert one.shape == (6, placed.width) and placed.width == 10
    assert torch.equal(one[:, 6:].argmax(1), torch.tensor([0, 1, 2, 3, 3, 3]))  # the last place is shared
    assert not torch.equal(sorted_rows(one), sorted_rows(other))  # also to whoever sees tokens as a set
    assert torch.equal(sorted_rows(one[:, :6]), sorted_rows(other[:, :6]))
    assert torch.equal(placed.pooled([ONE])[0], one.sum(0))


def sorted_rows(tokens: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(tokens.tolist()))


def test_unknown_words_are_refused_with_the_nearest_known_ones():
    words = Words(VOCABULARY)
    with pytest.raises(LabError, match="not trained on the word 'sqare' of prompt 'red sqare': did you mean 'square'"):
        words(["red", "red sqare"])
    with pytest.raises(LabError, match=r"prompt '!' has no words: use some of blue, circle"):
        words.check("!")


def test_an_encoder_is_set_by_its_name_or_by_its_settings():
    assert DiffusionConfig.model_validate({"text_encoder": "words"}) == DiffusionConfig()
    placed = DiffusionConfig.model_validate({"text_encoder": {"positions": 8}}).with_captions([ONE])
    assert placed.text_encoder == WordsConfig(positions=8, vocabulary=VOCABULARY)
    assert placed.settings["text_encoder"] == {"name": "words", "positions": 8}
    assert DiffusionConfig.model_validate_json(placed.model_dump_json()) == placed


def test_pieces_are_cut_as_the_merges_say():
    pieces = Pieces(tokenizer())
    assert pieces.of("left") == (3,)
    assert pieces.of("lefe") == (1, 5, 2)
    assert pieces.of("é") == (7, 8)  # its two bytes, as it is in no piece; ▁ alone has neither
    assert pieces.of("zz") == ()
    with pytest.raises(ValueError, match="no tokenizer of byte-pair encoding"):
        Pieces(b'{"model": {"type": "WordPiece", "vocab": {}}}')


def test_static_vectors_take_any_caption(static_folder: Path):
    config = StaticConfig(folder=static_folder, positions=2).fitted(["anything"])
    encoder = config.build()
    assert encoder.width == 4 and encoder.vocabulary == ()
    tokens = encoder(["left é"]).embeddings[0]
    assert torch.equal(tokens[:, 2:], torch.tensor([[1.0, 0], [0, 1], [0, 1]]))
    table = load_file(static_folder / "model.safetensors")["embedding"]
    assert torch.allclose(tokens[:, :2], table[[3, 7, 8]].float() / table.float().norm(dim=1).mean())
    assert torch.equal(encoder(["LEFT!"]).embeddings[0], encoder(["left"]).embeddings[0])
    with pytest.raises(LabError, match="no part of any word of prompt 'zz' is known"):
        encoder.check("zz")


def test_a_caption_of_which_only_the_beginnings_of_words_are_known_is_refused(static_folder: Path):
    (static_folder / "tokenizer.json").write_bytes(tokenizer().replace(b"<unk>", START.encode()))
    encoder = StaticConfig(folder=static_folder).fitted([]).build()
    with pytest.raises(LabError, match="no part of any word of prompt '中 zz' is known"):
        encoder.check("中 zz")
    assert encoder(["zz left"]).embeddings[0].shape == (2, 2)  # the sign stays where another word is known


def test_files_of_static_vectors_are_those_of_the_training(static_folder: Path):
    config = StaticConfig(folder=static_folder).fitted([])
    assert config.sha256 and config.fitted(["more"]) is config
    copied = shutil.copytree(static_folder, static_folder.with_name("other"))
    save_file({"embedding": torch.ones(9, 2)}, copied / "model.safetensors")
    with pytest.raises(LabError, match="are others than those that the model was trained with"):
        config.model_copy(update={"folder": copied}).build()
    save_file({"embedding": torch.ones(8, 2)}, copied / "model.safetensors")
    with pytest.raises(LabError, match=r"\(8, 2\) vectors are not one for each of 9 pieces"):
        StaticConfig(folder=copied).fitted([])
    (copied / "model.safetensors").unlink()
    with pytest.raises(LabError, match=r"needs the file .*model\.safetensors, which is not there"):
        StaticConfig(folder=copied).build()


def test_without_the_package_static_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("t2v_models.text.static.PACKAGE", "no_such_package")
    with pytest.raises(LabError, match=r"install it with 'pip install --no-deps no_such_package'"):
        StaticConfig().fitted([])


@pytest.mark.skipif(find_spec("wordllama") is None, reason="the package wordllama is not installed")
def test_vectors_of_the_package_know_words_of_one_kind():
    encoder = StaticConfig().fitted([]).build()
    left, leftward, blue = (F.normalize(encoder.pooled([word])[0], dim=0) for word in ("left", "leftward", "blue"))
    assert encoder.width == 256 and left @ leftward > left @ blue + 0.1
    assert len(encoder(["ein Кошка 猫"]).embeddings[0]) >= 3


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_and_samples_with_an_open_vocabulary_or_says_why_not(family: str, static_folder: Path):
    tiny = FAMILIES[family].tiny().model_dump(exclude={"text_encoder"})
    try:
        config = FAMILIES[family].model_validate(tiny | {"text_encoder": StaticConfig(folder=static_folder)})
    except ValueError as error:
        if any(f"{family} {why}" in str(error) for why in ("has a text encoder", "reads captions as its image model")):
            return
        raise
    model = built(config, ClipSpec(size=16, frames=6), ["left", "e"])
    frames = torch.randint(256, (config.batch_size, 6, 16, 16, 3), dtype=torch.uint8)
    found = model.training_step(Batch(frames, ("left",) * config.batch_size), 0, 0.0)
    assert all(value.isfinite().all() for value in found.values())
    if isinstance(model, RoundTrip):
        return  # it makes no clips of prompts
    clips = sample_frames(model, ["left", "left e", "never trained é"], [0, 0, 0])
    assert (clips[0] != clips[1]).any()


@pytest.fixture
def static_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "vectors"
    folder.mkdir()
    (folder / "tokenizer.json").write_bytes(tokenizer())
    vectors = torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float32).half()
    save_file({"embedding": vectors}, folder / "model.safetensors")
    return folder


def tokenizer() -> bytes:
    pieces = ("<unk>", "▁le", "e", "▁left", "ft", "f", "t", "<0xC3>", "<0xA9>")
    merges = ["f t", ["▁le", "ft"], "▁ l", "▁l e"]
    return json.dumps(
        {"model": {"type": "BPE", "vocab": {p: i for i, p in enumerate(pieces)}, "merges": merges}}
    ).encode()
