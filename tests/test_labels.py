"""The classifier of clips by how they move."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from t2v_models.judging.encoders import Views, looked_at
from t2v_models.judging.labels import LabelReader
from tests.owned import CAPTIONS, drawn, owned

SCRIPT = Path(__file__).parents[1] / "examples" / "verbs.py"
WAYS = [caption.split()[-1] for caption in CAPTIONS]
VERBS = ["goes" if way in ("left", "right") else way for way in WAYS]


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verbs", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def views(first: int, count: int) -> tuple[Views, list[str]]:
    places = [i % len(CAPTIONS) for i in range(first, first + count)]
    clips = np.stack([drawn(CAPTIONS[k], first + i) for i, k in enumerate(places)])
    return looked_at(clips), [VERBS[k] for k in places]


def test_labels_are_told_by_motion_alone() -> None:
    reader = LabelReader.learnt(*views(0, 96))
    assert np.array_equal(reader.weights, LabelReader.learnt(*views(0, 96)).weights)
    fresh, labels = views(96, 64)
    assert np.mean([a == b for a, b in zip(reader.read(fresh), labels, strict=True)]) > 0.95
    back = {"up": "down", "down": "up", "goes": "goes"}
    found = reader.read(np.ascontiguousarray(fresh[:, ::-1]))
    assert np.mean([a == back[b] for a, b in zip(found, labels, strict=True)]) > 0.95
    assert reader.read(np.ascontiguousarray(fresh[..., ::-1])) == reader.read(fresh)
    assert len(set(reader.read(fresh[:, :1].repeat(fresh.shape[1], 1)))) == 1


@pytest.mark.slow
def test_verbs_of_real_clips_of_copies_and_of_an_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, table = owned(tmp_path), tmp_path / "list.csv"
    rows = [f"{caption},{verb}" for caption, verb in zip(CAPTIONS, VERBS, strict=True)]
    table.write_text("\n".join(["caption,verb", *rows]))
    monkeypatch.setattr("sys.argv", ["verbs.py", str(data), str(table)])
    script().main()
    told = dict(line.split("  ")[-2:] for line in capsys.readouterr().out.splitlines()[1:])
    share = {name.strip(): float(score.split()[0]) for name, score in told.items()}
    assert share["oracle"] > 95 and share["mirrored"] > 95 and share["frozen"] < 60 and share["noise"] < 60
    units = [f"{row},{row.split()[1]}" for row in rows]  # all colours are trained
    table.write_text("\n".join(["caption,verb,unit", *units]))
    script().main()
    for line in capsys.readouterr().out.splitlines()[1:]:
        assert re.fullmatch(r".*  (.+ \(n = \d+\)); of units that were trained \1", line), line
    deaf = [f"{caption},{caption.split()[1]}" for caption in CAPTIONS]  # colours
    wrong = {
        "has no column 'verb'": "caption,label\n" + "\n".join(rows),
        "two verbs": "\n".join(["caption,verb", *rows, f"{CAPTIONS[0]},dances"]),
        "has no caption 'a": "\n".join(["caption,verb", *rows[1:2]]),
        "no better than": "\n".join(["caption,verb", *deaf]),
    }  # fmt: skip
    for why, content in wrong.items():
        table.write_text(content)
        with pytest.raises(SystemExit) as ended:
            script().main()
        assert ended.value.code == 2 and why in capsys.readouterr().err
