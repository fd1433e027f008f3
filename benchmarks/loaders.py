"""Decoded batches a second of our reader beside the loaders of others, on the same clips, in one run.

    python benchmarks/loaders.py                                  ours and `webdataset`, which is a dependency
    python benchmarks/loaders.py --mosaic ENV/bin/python --energon ENV/bin/python

The others run in environments of their own, which hold `mosaicml-streaming`, or `megatron-energon`, with `av` and
`opencv-python-headless` beside. Each reads shuffled batches of 16 as uint8 in one process, without workers, and decodes
with what its users do: NumPy, OpenCV's WebP, PyAV. Ours reads lz4 for NumPy. One JSON line a loader and kind of clip:
clips a second of its process's CPU time, the median of three epochs after one that warms up.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

BATCH, EPOCHS = 16, 4
KINDS = {"npy": 2000, "webp": 500, "mp4": 64}
"""Of 64 x 64 px and 10 frames, and films of 256 x 256 and 10; how many clips there are."""
Clips = Iterator[np.ndarray]


def decoders() -> dict[str, Callable[[bytes], np.ndarray]]:
    """Of what stands in the tars, to uint8 `(t, h, w, 3)`."""
    import av
    import cv2

    def webp(content: bytes) -> np.ndarray:
        _, film = cv2.imdecodeanimation(np.frombuffer(content, np.uint8))
        return np.stack(film.frames)[..., 2::-1]

    def mp4(content: bytes) -> np.ndarray:
        with av.open(io.BytesIO(content)) as film:
            film.streams.video[0].thread_type = "NONE"
            return np.stack([frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)])

    return {"npy": lambda content: np.load(io.BytesIO(content)), "webp": webp, "mp4": mp4}


def by_webdataset(folder: Path, kind: str) -> Clips:
    """`WebDataset`, shuffled by its buffer of 1,000."""
    import webdataset

    decode = decoders()[kind]
    tars = [str(path) for path in sorted((folder / kind).glob("*.tar"))]
    pipe = webdataset.WebDataset(tars, shardshuffle=len(tars)).shuffle(1000)
    return iter(pipe.map(lambda sample: decode(sample[kind])).batched(BATCH, collation_fn=np.stack))


def by_mosaic(folder: Path, kind: str) -> Clips:
    """`StreamingDataset`, of MDS shards that are written here first, before the time is taken."""
    from streaming import MDSWriter, StreamingDataset

    decode, out = decoders()[kind], folder / f"{kind}-mds"
    if not out.exists():
        with MDSWriter(out=str(out), columns={"clip": "bytes", "caption": "str"}) as writer:
            for path in sorted((folder / kind).glob("*.tar")):
                with tarfile.open(path) as tar:
                    for member in tar:
                        if member.name.endswith(kind):
                            writer.write({"clip": tar.extractfile(member).read(), "caption": member.name})
    samples = iter(StreamingDataset(local=str(out), shuffle=True, batch_size=BATCH))
    return batched(decode(sample["clip"]) for sample in samples)


def by_energon(folder: Path, kind: str) -> Clips:
    """`get_train_dataset` of a crude dataset, whose samples are bytes that a cooker decodes."""
    from megatron.energon import (
        Cooker,
        DefaultTaskEncoder,
        WorkerConfig,
        basic_sample_keys,
        get_savable_loader,
        get_train_dataset,
        stateless,
    )  # fmt: skip
    from megatron.energon.flavors import BaseWebdatasetFactory

    decode, out = decoders()[kind], folder / kind
    if not (out / ".nv-meta").exists():
        tars = [path.name for path in sorted(out.glob("*.tar"))]
        BaseWebdatasetFactory.prepare_dataset(
            out, tars, split_parts_ratio=[("train", 1)], shuffle_seed=None, workers=1, tar_index_only=False
        )
        crude = "__module__: megatron.energon\n__class__: CrudeWebdataset\n"
        (out / ".nv-meta/dataset.yaml").write_text(crude)

    @stateless
    def cook(sample: dict) -> dict:
        return dict(**basic_sample_keys(sample), clip=decode(sample[kind]))

    class Encoder(DefaultTaskEncoder):
        cookers = [Cooker(cook)]  # noqa: RUF012
        decoder = None

        def batch(self, samples: list) -> np.ndarray:
            return np.stack([sample["clip"] for sample in samples])

    config = WorkerConfig(rank=0, world_size=1, num_workers=0)
    dataset = get_train_dataset(
        out, batch_size=BATCH, shuffle_buffer_size=1000, max_samples_per_sequence=100, worker_config=config,
        task_encoder=Encoder(),
    )  # fmt: skip
    loader = iter(get_savable_loader(dataset))
    return (np.asarray(next(loader)) for _ in range(KINDS[kind] // BATCH))  # it repeats without end


def by_us(folder: Path, kind: str) -> Clips:
    """`stream.batches` of our shards; of films, what `t2v ingest` made of them is lz4 as well, which this is not: here
    their bytes are decoded one by one in our order."""
    from t2v_models.clips import media

    files = sorted((folder / f"{kind}-ours").iterdir())
    if kind == "mp4":
        order = np.random.default_rng(0).permutation(len(files))
        return batched(media.decode(files[i].read_bytes(), fps=10) for i in order)
    from t2v_models.shards.manifest import Manifest
    from t2v_models.shards.store import ClipStore
    from t2v_models.shards.stream import batches

    stream = batches(ClipStore(Manifest.load(folder / f"{kind}-ours")), BATCH, 1, 0, workers=0)
    return (next(stream).frames.numpy() for _ in range(KINDS[kind] // BATCH))


LOADERS = {"ours": by_us, "webdataset": by_webdataset, "mosaic": by_mosaic, "energon": by_energon}


def batched(clips: Clips) -> Clips:
    """16 at a time."""
    held = []
    for clip in clips:
        held.append(clip)
        if len(held) == BATCH:
            yield np.stack(held)
            held = []


def measure(loader: str, kind: str, folder: Path) -> dict[str, object]:
    """Clips a second of CPU time, and of the wall's."""
    rates, walls, seen = [], [], 0
    for _ in range(EPOCHS):
        batches = LOADERS[loader](folder, kind)
        start, wall, seen = time.process_time(), time.perf_counter(), 0
        for batch in batches:
            assert batch.dtype == np.uint8 and batch.shape[1] == 10 and batch.ndim == 5, batch.shape
            seen += len(batch)
        rates.append(seen / (time.process_time() - start))
        walls.append(seen / (time.perf_counter() - wall))
    return {
        "figure": f"decoded batches of {kind}", "loader": loader, "clips": seen,
        "clips_per_cpu_second": float(f"{median(rates[1:]):.4g}"),
        "clips_per_second": float(f"{median(walls[1:]):.4g}"),
    }  # fmt: skip


def write_all(folder: Path) -> None:
    """The same clips as tars for the others, and as shards and films of ours."""
    from t2v_models.shards.manifest import finish
    from t2v_models.shards.store import ClipStore
    from t2v_models.shards.write import write_shard
    from t2v_models.worlds.dataset import DatasetConfig

    for kind, count in KINDS.items():
        codec = "webp" if kind == "webp" else "lz4"
        size = 256 if kind == "mp4" else 64
        config = DatasetConfig(clips=count, clips_per_shard=125, spec={"size": size}, codec=codec)
        ours = folder / (f"{kind}-shards" if kind == "mp4" else f"{kind}-ours")
        for index in range(config.shards):
            write_shard(ours, config, index)
        store = ClipStore(finish(ours, config))
        (folder / kind).mkdir()
        (folder / f"{kind}-ours").mkdir(exist_ok=True)
        for index in range(-(-count // 125)):
            with tarfile.open(folder / kind / f"{index:05d}.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
                for row in range(index * 125, min(count, (index + 1) * 125)):
                    content = as_bytes(kind, store, row)
                    if kind == "mp4":
                        (folder / "mp4-ours" / f"{row:09d}.mp4").write_bytes(content)
                    for suffix, part in ((kind, content), ("txt", store.captions[row].encode())):
                        member = tarfile.TarInfo(f"{row:09d}.{suffix}")
                        member.size = len(part)
                        tar.addfile(member, io.BytesIO(part))


def as_bytes(kind: str, store: object, row: int) -> bytes:
    """A clip as a member of a tar."""
    from t2v_models.clips import media

    if kind == "webp":
        return bytes(store.stored(row))
    pixels = store.frames([row])[0]
    if kind == "mp4":
        return media.to_mp4(pixels, 10)
    content = io.BytesIO()
    np.save(content, pixels)
    return content.getvalue()


def main() -> None:
    """Each loader and kind in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name in ("mosaic", "energon"):
        parser.add_argument(f"--{name}", metavar="PYTHON", help="of an environment that has it")
    parser.add_argument("--one", nargs=3, metavar=("LOADER", "KIND", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one[0], given.one[1], Path(given.one[2]))))
        return
    pythons = {"ours": sys.executable, "webdataset": sys.executable, "mosaic": given.mosaic, "energon": given.energon}
    with tempfile.TemporaryDirectory() as folder:
        write_all(Path(folder))
        rows = []
        for kind in KINDS:
            rates = []
            for name, python in pythons.items():
                rates.append("–")
                if python:
                    paths = {} if name in ("mosaic", "energon") else {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
                    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | paths
                    done = subprocess.run(
                        [python, __file__, "--one", name, kind, folder], env=environment, capture_output=True, text=True
                    )
                    told = done.stderr if done.returncode else done.stdout
                    print(name, kind, told.splitlines()[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
                    if not done.returncode:
                        found = json.loads(told.splitlines()[-1])
                        rates[-1] = f"{found['clips_per_second']:,.0f} ({found['clips_per_cpu_second']:,.0f})"
            rows.append(f"| {kind} | {' | '.join(rates)} |")
        print(
            "\nclips a second by the clock (and of the CPU):\n",
            f"| | {' | '.join(pythons)} |",
            "|---|---|---|---|---|",
            *rows,
            sep="\n",
        )


if __name__ == "__main__":
    main()
