"""The playground: a page on the loopback where models answer prompts and the reader says what it sees."""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request, Response

from t2v_models.config import LabError
from t2v_models.text.wordnet import WordNet
from t2v_models.worlds.dataset import DatasetConfig
from tasks.play import (
    MOST_CLIPS,
    REAL,
    Player,
    another_seed,
    matching,
    next_words,
    player,
    short_name,
    show,
    whole,
    with_word,
)
from tasks.report.console import say
from tasks.servers.guard import OwnPagesOnly

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read on import
try:
    import gradio as gr
except ImportError as error:
    raise LabError("the playground needs Gradio, which is not installed: pip install 't2v-lab[play]'") from error

NOTHING = "nothing"
OUR_OWN = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' ws: data: blob:"
"""Content-Security-Policy: the browser fetches nothing from anywhere else, whatever a library's page asks for."""
FONTS = ("system-ui", "-apple-system", "Segoe UI", "Liberation Sans", "sans-serif")


def serve(
    runs: Sequence[str], beside: str | None, work: Path, port: int, like: DatasetConfig | None = None,
    wordnet: Path | None = None,
) -> None:  # fmt: skip
    """Serve the page on the loopback until Ctrl-C.

    Args:
        runs: models to choose from: run folders or model URIs; the first is shown first.
        beside: the model set beside it at the start, one of `runs`.
        work: folder of the MLflow store.
        port: where to listen; if it is taken, a free one is chosen and said.
        like: the dataset that a baseline draws from.
        wordnet: folder of WordNet's files, through which words that a model does not know are understood.

    Raises:
        LabError: the first model cannot be loaded; there is no WordNet.
    """
    database = WordNet(wordnet) if wordnet else None
    first = player(runs[0], work, like)
    if beside:
        player(beside, work, like)
    with _listening(port) as sock:
        address = f"http://127.0.0.1:{sock.getsockname()[1]}"
        app = OwnPagesOnly(application(page(runs, beside, work, like, database), address))
        example = first.prompts[0].replace(" ", "+")
        say(f"playground  {address}\nwith clips  {address}/?prompt={example}&seed=7\nCtrl-C stops it")
        with suppress(KeyboardInterrupt):
            _Server(uvicorn.Config(app, log_level="error")).run([sock])


class _Server(uvicorn.Server):
    """Ends at once: a page keeps its connection for as long as it is open, and nobody waits for people to close it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        logging.disable()  # answers that are cut off tell tracebacks
        self.force_exit = True
        super().handle_exit(sig, frame)


def application(blocks: gr.Blocks, address: str) -> FastAPI:
    """The page as a web application that lets the browser fetch from nowhere else."""
    app = FastAPI()

    @app.middleware("http")
    async def keep_inside(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await answer(request)
        response.headers["Content-Security-Policy"] = OUR_OWN
        return response

    style = Path(__file__).with_name("playground.css")
    theme = gr.themes.Base(primary_hue="blue", neutral_hue="stone", radius_size="lg", font=FONTS,
                           font_mono=("ui-monospace", "Liberation Mono", "monospace"))  # fmt: skip
    theme = theme.set(body_background_fill="#fbfaf7", body_background_fill_dark="#171714")
    mounted: FastAPI = gr.mount_gradio_app(
        app, blocks, "/", theme=theme, css_paths=style, footer_links=[], ssr_mode=False, show_error=False
    )
    return mounted


def page(
    runs: Sequence[str], beside: str | None, work: Path, like: DatasetConfig | None = None,
    wordnet: WordNet | None = None,
) -> gr.Blocks:  # fmt: skip
    """The page for these models."""

    def answer(prompt: Any, seed: Any, count: Any, run: Any, other: Any, shape: Any = None) -> str:
        """The clips, or why there are none. A program may send anything that JSON can hold."""
        try:
            if run not in runs or other not in (NOTHING, REAL, *runs):
                raise LabError(f"this page has no model {run!r} or {other!r}: it has {', '.join(runs)}")
            sides: list[Player | None] = [player(run, work, like)]
            if other != NOTHING:
                sides.append(None if other == REAL else player(other, work, like))
            seed = 0 if seed is None else seed  # its field is empty
            known = player(run, work, like).shapes  # of a model chosen just now, the field has not heard yet
            asked = shape if shape in known[1:] else None
            return show(sides, str(prompt), whole("seed", seed), whole("number of clips", count), wordnet, asked)
        except LabError as error:
            return f'<div class="mistake">{escape(str(error))}</div>'

    def suggest(text: str, run: str) -> tuple[Any, Any, Any]:
        """Words that may come next, and prompts that hold what is typed: trained ones and others."""
        who = player(run, work, like)
        known = next_words(text, (*who.prompts, *who.held_out), who.source.vocabulary)
        rows = [[[with_word(text, w)] for w in known]]
        rows += [[[p] for p in matching(text, prompts)] for prompts in (who.prompts, who.held_out)]
        return (
            gr.Dataset(samples=rows[0], sample_labels=known, visible=bool(known)),
            gr.Dataset(samples=rows[1], label=who.labels[0]),
            gr.Dataset(samples=rows[2], label=who.labels[1], visible=bool(rows[2])),
        )

    def shapes_of(run: str, shape: str | None = None) -> gr.Dropdown:
        known = player(run, work, like).shapes
        return gr.Dropdown(list(known), value=shape if shape in known else known[0], visible=len(known) > 1)

    def start(request: gr.Request) -> tuple[Any, ...]:
        """What the address asks for: `?prompt=…&seed=…&count=…&model=…&beside=…&shape=…`."""
        asked = request.query_params
        run, other = asked.get("model", runs[0]), asked.get("beside", beside or NOTHING)
        run = run if run in runs else runs[0]
        other = other if other in (*runs, REAL) else NOTHING
        prompt = asked.get("prompt", player(run, work, like).prompts[0])
        seed, count = _number(asked.get("seed"), 0, 2**53), min(_number(asked.get("count"), 4, MOST_CLIPS) or 1, 12)
        shape = asked.get("shape")
        clips = answer(prompt, seed, count, run, other, shape)
        return prompt, run, other, seed, count, shapes_of(run, shape), clips, *suggest(prompt, run)

    blocks = gr.Blocks(title="t2v playground", analytics_enabled=False)
    with blocks:
        gr.HTML(
            "<h1>Playground</h1><p>Ask for a motion and watch. The reader draws the path it saw on every clip and says "
            "whether it is the motion you asked for; no network judges. Of a model of your own clips nobody knows what "
            "is right: <code>t2v evaluate RUN</code> judges it beside real ones.</p>",
            elem_classes="masthead",
        )
        with gr.Row(equal_height=True):
            prompt = gr.Textbox(label="Prompt", elem_id="prompt", scale=5, autofocus=True, max_lines=1)
            go = gr.Button("Show clips", variant="primary", scale=1, min_width=130, elem_id="go")
        word = _chips("Next word")
        with gr.Row():
            named = [(short_name(r), r) for r in runs]
            run = gr.Dropdown(named, value=runs[0], label="Model", scale=3, elem_id="model")
            apart = [(NOTHING, NOTHING), (REAL, REAL), *named]
            other = gr.Dropdown(apart, value=NOTHING, label="Beside it", scale=3, elem_id="beside")
            shape = gr.Dropdown([], label="Width, height, frames", scale=2, elem_id="shape", visible=False)
            seed = gr.Number(0, label="Seed of the first clip", precision=0, minimum=0, scale=2, elem_id="seed")
            count = gr.Slider(1, MOST_CLIPS, 4, step=1, label="Clips", scale=2)
            dice = gr.Button("Another seed", scale=1, min_width=120, elem_id="dice")
        clips = gr.HTML(elem_id="clips")
        trained, held = _chips(""), _chips("")  # labelled as the model is chosen
        asked, suggestions = [prompt, seed, count, run, other, shape], [word, trained, held]
        blocks.load(start, None, [prompt, run, other, seed, count, shape, clips, *suggestions], show_progress="hidden")
        ask = [prompt.submit, go.click, run.input, other.input, shape.input, seed.submit, count.release]
        raw = {"fn": answer, "inputs": asked, "outputs": clips, "preprocess": False}
        gr.on(ask, **raw)
        gr.on([prompt.change, run.input], suggest, [prompt, run], suggestions, show_progress="hidden")
        run.input(shapes_of, run, shape, show_progress="hidden")
        dice.click(another_seed, None, seed, show_progress="hidden").then(**raw)
        word.click(lambda row: row[0], word, prompt, show_progress="hidden")
        for row in (trained, held):
            row.click(lambda row: row[0], row, prompt, show_progress="hidden").then(**raw)
    return blocks


def _chips(label: str) -> gr.Dataset:
    """Texts to click."""
    return gr.Dataset(components=[gr.Textbox(visible=False)], samples=[], label=label, elem_classes="chips",
                      samples_per_page=24)  # fmt: skip


def _number(text: str | None, default: int, most: int) -> int:
    return min(int(text[:20]), most) if text and text.isdecimal() else default


def _listening(port: int) -> socket.socket:
    """A socket on the loopback, at `port` if it is free."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError:
        sock = socket.create_server(("127.0.0.1", 0))
        say(f"port {port} is taken: the playground gets {sock.getsockname()[1]}")
        return sock
