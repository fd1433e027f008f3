"""A registered model elsewhere: by a tracking server only, in a clean process, behind HTTP, and on the command line."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import httpx
import numpy as np
import pytest

from flows.cli.main import main
from t2v_models.checkpoint import newest
from t2v_models.clips import media
from t2v_models.generate import load_run
from t2v_models.sampler import sample_frames
from tasks.mlflow.registry import promote, version_with
from tasks.mlflow.server import settings
from tasks.mlflow.store import client
from tasks.mlflow.tracking import track
from tests.attacks import REBOUND, by_all_pages, by_http
from tests.browser import CHROMIUM, browser
from tests.runs import train
from tests.tiny import prepared

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # mlflow's own

BIN = Path(sys.executable).parent
PROMPT = "circle moving left"
READY_SECONDS = 240


def clean(**more: str) -> dict[str, str]:
    """An environment that knows neither the checkout nor a store, except what is given."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "T2V_", "PYTHONPATH"))}
    return kept | {"PATH": f"{BIN}:{kept['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true", "OMP_NUM_THREADS": "1"} | more


@contextmanager
def serving(folder: Path, health: str, *command: str, **environment: str) -> Iterator[str]:
    """A server on a free port of the loopback, once it answers; its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", folder / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            cwd=folder, stdout=out, stderr=out, env=clean(**environment), start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if httpx.get(url + health, timeout=5).is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.3)
        else:
            pytest.fail(log.read_text()[-3000:])
        yield url
    finally:
        process.terminate()
        process.wait(READY_SECONDS)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = tmp_path_factory.mktemp("runs") / "gan"
    train(data, run_dir, 1)
    return run_dir


@pytest.fixture(scope="module")
def store(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A tracking server that keeps the artifacts itself, with one registered model, which is champion."""
    folder = tmp_path_factory.mktemp("server")
    command = (sys.executable, "-m", "uvicorn", "--factory", "tasks.mlflow.server:application")
    kept = settings(f"sqlite:///{folder}/mlflow.db", folder / "kept")
    kept |= {"_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/", "PYTHONPATH": str(Path(__file__).parents[1])}
    with serving(folder, "/health", *command, **kept) as url:
        with prepared(folder / "work"), redirect_stdout(StringIO()) as told, redirect_stderr(told):
            os.environ["MLFLOW_TRACKING_URI"] = url  # `prepared` takes it away again
            with track(folder / "work", "exp", "a", params={}, tags={}) as tracker:
                tracker.model(run, "t2v-gan", PROMPT)
            last, registry = newest(run), client(folder / "work")
            found = last and version_with(registry, last.sha256)
            assert found
            promote(registry, found)
        assert told.getvalue() == ""
        yield url


@pytest.fixture(scope="module")
def server(store: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`t2v serve`, which is MLflow's own scoring server behind our guard."""
    command = (sys.executable, "-m", "flows.cli.main", "serve", "models:/t2v-gan@champion")
    here = {"MLFLOW_TRACKING_URI": store, "PYTHONPATH": str(Path(__file__).parents[1])}
    with serving(tmp_path_factory.mktemp("elsewhere"), "/ping", *command, **here) as url:
        yield url


def test_the_server_answers_no_foreign_page(server: str) -> None:
    by_http(f"{server}/invocations", {"dataframe_records": [{"prompt": PROMPT}]})


@pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium")
def test_no_page_in_a_browser_uses_the_server(server: str, tmp_path: Path) -> None:
    with browser(tmp_path / "browser", names=REBOUND) as page:
        by_all_pages(page, f"{server}/invocations", {"dataframe_records": [{"prompt": PROMPT}]})


def test_a_clean_process_without_the_lab_answers_as_the_run_folder_does(store: str, run: Path, tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("flows", "tasks", "prefect", "cv2", "webdataset", "pyarrow.parquet", "torch._dynamo"):
    sys.modules[name] = None  # importing it fails
import json, mlflow, pandas
model = mlflow.pyfunc.load_model("models:/t2v-gan@champion")
table = model.predict(pandas.DataFrame({{"prompt": [{PROMPT!r}]}}), params={{"seed": 5, "count": 2, "format": "webp"}})
import t2v_models
print(json.dumps([t2v_models.__file__, table.to_dict("records")]))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, env=clean(MLFLOW_TRACKING_URI=store),
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    place, rows = json.loads(done.stdout.splitlines()[-1])
    assert "/code/" in place, "the model's own copy answers, not the installed one"
    told = [(r["seed"], r["mime"], r["frames"], r["height"], r["width"]) for r in rows]
    assert told == [(s, "image/webp", 6, 16, 16) for s in (5, 6)]
    expected = sample_frames(load_run(run), [PROMPT] * 2, [5, 6])
    for row, clip in zip(rows, expected, strict=True):
        assert np.array_equal(media.decode(base64.b64decode(row["data_base64"]), fps=10), clip)


def ask(server: str, prompts: object, **params: object) -> httpx.Response:
    content = {"dataframe_split": {"columns": ["prompt"], "data": [[p] for p in prompts]}, "params": params}
    return httpx.post(f"{server}/invocations", json=content, timeout=120)


def test_the_server_turns_prompts_into_clips(server: str, run: Path) -> None:
    answer = ask(server, [PROMPT, "circle moving up"], seed=3, count=2)
    assert answer.status_code == 200
    rows = answer.json()["predictions"]
    assert [(r["prompt"], r["seed"]) for r in rows] == [(p, s) for p in (PROMPT, "circle moving up") for s in (3, 4)]
    assert media.decode(base64.b64decode(rows[0]["data_base64"])).shape == (6, 16, 16, 3)
    [row] = ask(server, [PROMPT], seed=3).json()["predictions"]  # another batch, which may round otherwise
    assert (row["prompt"], row["seed"]) == (PROMPT, 3)
    plain = httpx.post(f"{server}/invocations", json={"prompt": PROMPT, "seed": 3, "count": 1}, timeout=120)
    assert plain.json() == [row], "the short form that a person types"
    assert ask(server, [PROMPT], seed=3, shape="16x16x6").json()["predictions"] == [row]
    webp = ask(server, [PROMPT], seed=3, format="webp").json()["predictions"][0]
    exact = sample_frames(load_run(run), [PROMPT], [3])[0]
    assert np.array_equal(media.decode(base64.b64decode(webp["data_base64"]), fps=10), exact)


@pytest.mark.parametrize(
    ("prompts", "params", "reason"),
    [
        (["circle moving lefft"], {}, "not trained on the word 'lefft' of prompt 'circle moving lefft': did you mean"),
        ([PROMPT], {"shape": "64x36x6"}, "cannot take another size than 16 x 16 px"),
        ([PROMPT], {"shape": "64x36"}, "is no shape: write width, height and frames"),
        ([""], {}, "prompt '' has no words: use some of bouncing, circle"),
        (["?!"], {}, "has no words"),
        ([], {}, "prompts: should have at least 1 of them, not 0"),
        ([PROMPT], {"count": 1_000_000}, "count: should be less than or equal to 64 (found 1000000)"),
        ([PROMPT] * 65, {}, "prompts: should have at most 64 of them, not 65"),
        ([PROMPT] * 9, {"count": 8}, "9 prompts with count 8 are 72 clips: an answer holds at most 64"),
        ([PROMPT], {"count": 0}, "count: should be greater than or equal to 1 (found 0)"),
        ([PROMPT], {"count": "many"}, "count"),
        ([PROMPT], {"count": 2.5}, "count"),
        ([PROMPT], {"seed": -1}, "seed: should be greater than or equal to 0 (found -1)"),
        ([PROMPT], {"seed": 2**70}, "seed"),
        ([PROMPT], {"seed": None}, "seed: should be a valid integer (found None)"),
        ([PROMPT], {"format": "mp5"}, "format: should be 'mp4' or 'webp' (found 'mp5')"),
        ([7], {}, "prompts.0: should be a valid string (found 7)"),
        ([None], {}, "prompts.0: should be a valid string"),
        ([["circle"]], {}, "prompts.0: should be a valid string"),
    ],
)
def test_wrong_input_gets_400_and_the_reason(
    server: str, prompts: list[object], params: dict[str, object], reason: str
) -> None:
    answer = ask(server, prompts, **params)
    assert answer.status_code == 400, answer.text
    assert reason in answer.json()["message"], answer.text


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"dataframe_split": {"columns": ["x"], "data": [["circle"]]}}']
)
def test_a_request_of_another_form_gets_400(server: str, body: bytes) -> None:
    answer = httpx.post(f"{server}/invocations", content=body, headers={"content-type": "application/json"}, timeout=60)
    assert answer.status_code == 400, answer.text
    assert answer.json()["message"]


def t2v(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    here = clean(PYTHONPATH=str(Path(__file__).parents[1]), HOME=str(folder), **environment)
    return subprocess.run([BIN / "t2v", *arguments], cwd=folder, env=here, capture_output=True, text=True, timeout=1200)


def test_generate_from_anywhere_the_store_can_be_reached(store: str, run: Path, tmp_path: Path) -> None:
    asked = ("generate", "models:/t2v-gan@champion", PROMPT, "--count", "1", "--seed", "9", "--out", "a.npz")
    made = t2v(tmp_path, *asked, MLFLOW_TRACKING_URI=store)
    assert (made.returncode, made.stdout, made.stderr) == (0, "a.npz\n", "")
    frames, prompts, seeds = media.load_npz(tmp_path / "a.npz")
    assert (prompts, seeds) == ([PROMPT], [9])
    assert np.array_equal(frames, sample_frames(load_run(run), [PROMPT], [9]))


MISTAKES = [
    ("models:/t2v-gam@champion", PROMPT, None, "unknown model 't2v-gam', did you mean 't2v-gan'?"),
    ("models:/t2v-gan@challenger", PROMPT, None, "t2v-gan has versions 1 to 1 and the aliases @champion"),
    ("models:/t2v-gan@champion", "disc moving", None, "not trained on the word 'disc' of prompt 'disc moving'"),
    ("models:/t2v-gan@champion", " ", None, "prompt ' ' has no words"),
    ("models:/t2v-gan@champion", PROMPT, "http://127.0.0.1:9", "MLflow does not answer at http://127.0.0.1:9"),
    ("models:/t2v-gan@champion", PROMPT, "htp://here", "MLflow does not answer at htp://here"),
    ("models:/t2v-gan@champion", PROMPT, "", "it holds no model yet; train one"),
]
"""A model, a prompt, a store if it is not the one with the model, and what is said."""


@pytest.mark.parametrize(("model", "prompt", "uri", "sentence"), MISTAKES)
def test_what_generate_cannot_do_is_one_sentence(
    store: str, model: str, prompt: str, uri: str | None, sentence: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["t2v", "generate", model, prompt, "--out", "a.npz"])
    with prepared(tmp_path / "work"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", store if uri is None else uri)
        with pytest.raises(SystemExit) as ended:
            main()
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert sentence in said.err
    assert said.err.strip().count("\n") == 0, said.err
    assert not (tmp_path / "a.npz").exists()
