"""A dataset by its name, wherever it lies: a folder, a URL, or tars of others. Imports no torch."""

from pathlib import Path

from t2v_models.config import LabError
from t2v_models.shards.in_place import manifest_of, tars_in_place
from t2v_models.shards.manifest import Manifest
from t2v_models.shards.remote import CACHE_GIB, RemoteStore, is_url, local_folder
from t2v_models.shards.store import ClipStore


def open_data(data: Path | str, cache: Path, gib: float = CACHE_GIB, out: Path | None = None) -> ClipStore:
    """The dataset in a folder or at a URL as an array of clips.

    Args:
        data: a folder, a URL of any scheme that fsspec knows, or WebDataset tars of others (`in_place`).
        cache: folder for what comes from URLs and for manifests of tars; many processes and datasets may share it.
        gib: the most that the cache may hold, in GiB.
        out: where a run on it is written, if one is.

    Raises:
        LabError: there is no dataset, `out` lies in it, or the cache is too small for it or cannot be written.
    """
    if tars := tars_in_place(str(data)):
        return ClipStore(manifest_of(tars, cache))
    if is_url(data):
        return RemoteStore(str(data), cache, gib)
    store = ClipStore(Manifest.load(local_folder(data)))
    if out and out.resolve().is_relative_to(local_folder(data).resolve()):
        raise LabError(f"--out {out} lies in the dataset {data}, whose files are sealed: name a folder beside it")
    return store
