"""What commands leave outside the work folder, and what they open: nothing, whichever comes first.

Prefect and MLflow read on import where they may write, whether they report home, and whether Prefect may start a server
of its own, which every page of a browser could use. So what counts is what stands in the environment by then.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import typer

from flows.cli.main import app
from t2v_models.clips.media import save_clips
from tests.runs import train

COMMANDS = {
    "run": "--profile smoke",
    "train": "DATA --steps 1 --out out",
    "settings": "gan",
    "evaluate": "oracle --like DATA --split s3 --clips-per-prompt 1",
    "compare": "RUN RUN",
    "seeds": "RUN RUN",
    "up": "--prefect-port 4200 --mlflow-port 4200",
    "render": "out --clips 1 --size 16",
    "ingest": "clips out --size 16 --validation 0",
    "verify": "DATA",
    "export": "unconditional out --like DATA --count 1 --kind npz",
    "generate": "oracle PROMPT --like DATA --out x.npz --count 1",
    "story": "RUN PROMPT --out x.npz",
    "tokens": "DATA RUN",
    "tune": "RUN clips/a.npz PROMPT --out out",
    "average": "RUN --power 8 --out out",
    "play": "--port 0",
    "serve": "models:/x/1 --port 0",
    "clean": "--yes",
}
"""Each with as much as it needs to come far."""

SCRIPT = """
import json, os, sys
import psutil
from flows.cli.main import main
import tasks.subjects, t2v_models.generate  # what most commands import, once for all of them

class Look:
    def find_spec(self, name, *_):
        if name in ("prefect", "mlflow"):
            home = os.environ.get("PREFECT_HOME", "")
            ours = home == os.path.join(os.getcwd(), "there", "prefect")
            alone = os.environ.get("PREFECT_SERVER_EPHEMERAL_ENABLED") == "false"
            quiet = os.environ.get("DO_NOT_TRACK") and os.environ.get("MLFLOW_DISABLE_TELEMETRY")
            for server in psutil.Process().children():  # a run's own, which has begun to start beside the import
                server.kill()
            listening = [c for c in psutil.Process().net_connections() if c.status == "LISTEN"]
            os._exit(40 if ours and alone and quiet and not listening else 41)

assert not {"prefect", "mlflow"} & set(sys.modules)
sys.meta_path.insert(0, Look())
codes = {}
for command, arguments in json.loads(sys.argv[1]).items():
    if (child := os.fork()) == 0:
        sys.argv = ["t2v", command, *arguments]
        code = 1
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            sys.stderr.flush()
            os._exit(code)
    codes[command] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(codes))
"""


def test_no_command_lets_prefect_or_mlflow_choose_where_they_write(data: Path, tmp_path: Path) -> None:
    assert COMMANDS.keys() == typer.main.get_command(app).commands.keys()
    (tmp_path / "home").mkdir()
    (tmp_path / "there").mkdir()
    run = tmp_path / "run"
    train(data, run, 1)
    save_clips(tmp_path / "clips" / "a.npz", np.zeros((1, 10, 16, 16, 3), np.uint8), ["a"], [0], 10)
    (tmp_path / "clips" / "a.txt").write_text("a still")
    before = {*tmp_path.iterdir()}
    work = {name: [] if name in ("settings", "seeds", "average") else ["--work", "there"] for name in COMMANDS}
    places = {"DATA": str(data), "RUN": str(run), "PROMPT": "circle moving left"}
    filled = {n: [*(places.get(word, word) for word in a.split()), *work[n]] for n, a in COMMANDS.items()}
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "T2V_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(filled)], cwd=tmp_path, capture_output=True, text=True,
        env=clean | {"HOME": str(tmp_path / "home"), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    codes = json.loads(done.stdout.splitlines()[-1])
    wrong = {name: code for name, code in codes.items() if code not in (0, 2, 40)}
    assert not wrong, (wrong, done.stderr)
    reached = {name for name, code in codes.items() if code == 40}
    assert reached >= {"run", "train", "evaluate", "render", "ingest", "serve", "clean"}, (codes, done.stderr)
    assert codes["generate"] == codes["export"] == codes["verify"] == codes["settings"] == 0, done.stderr
    assert not [*(tmp_path / "home").iterdir()]
    assert {*tmp_path.iterdir()} - before <= {tmp_path / "out", tmp_path / "x.npz"}
