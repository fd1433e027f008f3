"""The text encoder `transformers`, from folders with tiny random weights; and captions that are encoded once."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from t2v_models import checkpoint as checkpoints
from t2v_models.config import LabError
from t2v_models.fresh import new_run
from t2v_models.generate import load_run
from t2v_models.sampler import sample_frames
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.store import ClipStore
from t2v_models.text import kept as kept_file
from t2v_models.text.kept import kept
from t2v_models.text.network import Network, TransformersConfig
from t2v_models.training.config import TrainConfig
from t2v_models.training.loop import VECTORS, fit
from tests.pretrained import clip_text, clip_tokenizer, t5
from tests.runs import SMALL, quiet

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def bert() -> tuple[Any, Any]:
    from transformers import BertConfig, BertModel, BertTokenizer

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{letter}" for letter in LETTERS)]
    config = BertConfig(vocab_size=len(pieces), hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
                        intermediate_size=16, max_position_embeddings=32)  # fmt: skip
    return BertTokenizer(vocab={piece: i for i, piece in enumerate(pieces)}), BertModel(config, add_pooling_layer=False)


NETWORKS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "clip": lambda: (clip_tokenizer(), clip_text(8)), "t5": t5, "bert": bert
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("networks")
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        for part in make():
            part.save_pretrained(place / name)
    return place


def encoder(folder: Path) -> Network:
    return TransformersConfig(folder=folder).fitted([]).build()


@pytest.mark.parametrize(("name", "width"), [("clip", 8), ("t5", 32), ("bert", 8)])
def test_tokens_are_the_last_states_of_the_network_each_of_length_1(folders: Path, name: str, width: int) -> None:
    before = torch.get_rng_state()
    text = encoder(folders / name)
    alone, both = text(["left"]), text(["left", "moving to the left"])
    assert torch.equal(before, torch.get_rng_state()), "nothing is drawn"
    assert alone.embeddings.shape[2] == text.width == width
    assert torch.allclose(alone.embeddings.norm(dim=2), torch.ones(1, alone.mask.shape[1]), atol=1e-5)
    length = int(both.mask[0].sum())
    assert torch.equal(both.embeddings[0, :length], alone.embeddings[0]), "whatever stands beside it"
    assert not list(text.parameters()) and not text.state_dict()


def test_the_network_is_read_as_transformers_has_it(folders: Path) -> None:
    tokenizer, network = bert()
    network = type(network).from_pretrained(folders / "bert", add_pooling_layer=False).eval()
    with torch.no_grad():
        states = network(**tokenizer("go up", return_tensors="pt")).last_hidden_state[0]
    found = encoder(folders / "bert")(["go up"]).embeddings[0]
    assert torch.allclose(found, torch.nn.functional.normalize(states, dim=1), atol=1e-6)


def test_it_is_chosen_by_its_name_and_folder(folders: Path) -> None:
    config = SMALL["gan"].model_validate({"name": "gan", "text_encoder": f"transformers:{folders / 'bert'}"})
    assert config.text_encoder == TransformersConfig(folder=folders / "bert")
    named = {"name": "gan", "text_encoder": {"name": f"transformers:{folders / 'bert'}", "positions": 2}}
    assert SMALL["gan"].model_validate(named).text_encoder.positions == 2
    assert SMALL["gan"].model_validate({"name": "gan", "text_encoder": "static:vectors"}).text_encoder.folder == Path(
        "vectors"
    )


def test_long_captions_are_cut_and_that_is_told_once(folders: Path, caplog: pytest.LogCaptureFixture) -> None:
    text = encoder(folders / "bert")
    assert text(["a " * 50, "b " * 50]).embeddings.shape[1] == 32
    assert caplog.text.count("captions are cut to the 32 tokens") == 1


def spoilt(folder: Path, to: Path, spoil: Callable[[Path], None]) -> Path:
    shutil.copytree(folder, to)
    spoil(to)
    return to


def rewritten(file: Path, **changes: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda f: (f / "config.json").unlink(), "holds no config.json"),
        (lambda f: (f / "tokenizer.json").unlink(), "lacks its tokenizer, one of tokenizer.json"),
        (lambda f: (f / "model.safetensors").unlink(), "lacks its weights, a file of safetensors"),
        (lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"), "can run any program when it is unpickl"),
        (lambda f: (f / "model.safetensors").write_bytes(b"12345678910"), "is no file of safetensors"),
        (lambda f: rewritten(f / "config.json", model_type="own"), "a network of the kind 'own'.*is never run"),
        (lambda f: (f / "config.json").write_text("{"), "is no JSON"),
        (lambda f: rewritten(f / "config.json", num_hidden_layers=2), "lacks 16 weights, as encoder.layer.1"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "cannot be loaded as a BertModel"),
        (shutil.rmtree, "there is no folder .* nothing is downloaded"),
    ],
)
def test_a_folder_without_its_files_is_one_sentence(
    folders: Path, tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    with pytest.raises(LabError, match=sentence) as said:
        encoder(spoilt(folders / "bert", tmp_path / "spoilt", spoil)).check("left")
    assert "\n" not in str(said.value)


def test_what_cannot_be_encoded_is_one_sentence(folders: Path) -> None:
    with pytest.raises(LabError, match=r"needs a folder: --set text_encoder=transformers:FOLDER"):
        TransformersConfig().fitted([])
    for name in ("bert", "t5"):
        with pytest.raises(LabError, match="no part of any word of prompt '猫' is known"):
            encoder(folders / name).check("猫")


def test_code_in_a_folder_is_not_run(folders: Path, tmp_path: Path) -> None:
    def spoil(folder: Path) -> None:
        rewritten(folder / "config.json", auto_map={"AutoModel": "own.Own", "AutoConfig": "own.Own"})
        rewritten(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]})
        (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    encoder(spoilt(folders / "bert", tmp_path / "spoilt", spoil)).check("left")
    assert not (tmp_path / "ran").exists()


def test_a_run_learns_samples_and_tells_when_its_encoder_is_another(
    folders: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folders / "bert", tmp_path / "bert")
    monkeypatch.chdir(tmp_path)
    model = SMALL["gan"].model_validate(SMALL["gan"].model_dump() | {"text_encoder": "transformers:bert"})
    store, seen = ClipStore(Manifest.load(data)), []
    asked = Network.tokens
    monkeypatch.setattr(Network, "tokens", lambda self, prompt: seen.append(prompt) or asked(self, prompt))
    run, training = new_run(store.manifest, model, 0), TrainConfig(steps=2, probe_seconds=0)
    last = fit(run, store, training, tmp_path / "run", quiet)
    assert sorted(seen) == sorted(set(store.captions)), "each caption once"
    assert (tmp_path / "run" / VECTORS).is_file()
    monkeypatch.chdir("/")
    clips = sample_frames(load_run(tmp_path / "run"), ["circle moving left", "discs sink"], [0, 0])
    assert len(clips) == 2 and last.sha256 == checkpoints.newest(tmp_path / "run").sha256
    rewritten(tmp_path / "bert" / "config.json", layer_norm_eps=0.1)
    with pytest.raises(LabError, match="is another than that which the model was trained with .*bring back"):
        load_run(tmp_path / "run")
    shutil.rmtree(tmp_path / "bert")
    with pytest.raises(LabError, match="there is no folder .*bert with a text encoder"):
        load_run(tmp_path / "run")


def vectors(asked: list[str]) -> Callable[[str], torch.Tensor]:
    def tokens(caption: str) -> torch.Tensor:
        asked.append(caption)
        return torch.full((len(caption), 2), float(len(caption)))

    return tokens


def test_captions_are_encoded_once_whoever_reads_the_file(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, asked = tmp_path / "captions.vectors", []
    for _ in range(2):
        found = kept(file, "digest", ["a", "bcd"], 2, vectors(asked))
        assert asked == ["a", "bcd"]
        assert found["bcd"].tolist() == [[3.0, 3.0]] * 3 and "a" in found and "e" not in found
    whole = file.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        file.write_bytes(damaged)
        assert kept(file, "digest", ["a", "bcd"], 2, vectors(asked))["a"].tolist() == [[1.0, 1.0]]
        assert file.read_bytes() == whole
    file.write_bytes(whole[:20])
    kept(file, "digest", ["a", "bcd"], 2, vectors(asked))
    assert file.read_bytes() == whole and caplog.text.count("is damaged, or of other captions") == 4
    asked.clear()
    kept(file, "another", ["a", "bcd"], 2, vectors(asked))
    kept(file, "another", ["a"], 2, vectors(asked))
    assert asked == ["a", "bcd", "a"]


def test_captions_without_room_are_encoded_each_time_and_that_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept_file, "MOST_BYTES", 20)
    found = kept(tmp_path / "file", "digest", ["a", "b", "c"], 2, vectors([]))
    assert "b" in found and "c" not in found
    assert "the vectors of 3 captions take more than 20 B: those of the first 2 are kept" in caplog.text


def test_a_file_that_is_being_made_is_not_there_yet(tmp_path: Path) -> None:
    def stopped(caption: str) -> torch.Tensor:
        raise LabError(caption)

    with pytest.raises(LabError, match="a"):
        kept(tmp_path / "file", "digest", ["a"], 2, stopped)
    assert not list(tmp_path.iterdir())
