"""People's own captioned clips to the same shards as rendered ones: decode, resample, fit, cut into windows, store.

What becomes no clip is listed with the reason (`ingest_report`). Source files kept for validation become a dataset
of their own in the folder `validation` of the first. Clips are a function of the files, their names and the options.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from t2v_models.clips.spec import ClipSpec, in_a_row, sides_alike
from t2v_models.config import LabError, flatten
from t2v_models.files import remove
from t2v_models.shards.ingest_report import REJECTS, Reject, read_report, write_report
from t2v_models.shards.ingested import DataConfig, IngestConfig, IngestOptions, config_digest
from t2v_models.shards.isolated import Mapper, in_turn
from t2v_models.shards.manifest import MANIFEST, VALIDATION, Manifest
from t2v_models.shards.sources import Listing, Source, list_sources, source_digest
from t2v_models.shards.split_writer import SplitWriter, Subset
from t2v_models.shards.spool import SPOOLS, spool_path
from t2v_models.shards.windows import Job, Window, windows
from t2v_models.shards.write import clear_stale, read_metadata

KNOWN = "a file of this name is in the dataset already: if it is another film, rename it"


@dataclass(frozen=True)
class Ingested:
    """How an ingest ended."""

    sources: int
    train: int
    validation: int
    rejects: int
    """Files, and parts of files."""


def ingest(
    source: Path,
    out: Path,
    options: IngestOptions,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    mapper: Mapper = in_turn,
    on_source: Callable[[float, int], None] = lambda done, total: None,
    add: bool = False,
) -> Ingested:
    """Make a dataset in `out` from a folder or a table of clips, or leave a complete one of the same clips alone.

    Clips are added to one without a change to any byte of its shards; files whose names it has are not read again.

    Args:
        source: a folder, or a table with the columns path and caption.
        out: folder of the dataset.
        options: how files become clips.
        captions: a table for a folder; without it, captions stand in text files beside the clips.
        columns: what the table's columns are called, where they have unusual names.
        mapper: `in_turn`, or `isolated(workers)` for several processes that may crash.
        on_source: called with the number of sources done and their total; a part of a source counts as a part.
        add: add the clips to the dataset in `out`, whose options they have, in shards of their own.

    Raises:
        LabError: nothing to read; a table that is none; no usable clip; `out` holds something else, or cannot be
            written.
    """
    listing = look(source, out, options, captions, columns, add)
    rejects = listing.rejects
    old = _existing(out) if add else {}
    sides, half = _sides(listing.sources, old), _half_added(listing.sources, old)
    if add:
        _leave_out(listing, old)
        _keep_reported(listing, out)
    sources, digest = _digested(listing.sources, rejects)
    if not sources and not old:
        raise _nothing(source, rejects)
    if not add:
        _require_free(out, _wanted(options, world="ingested", source_sha256=digest))
        if done := _finished(out, len(sources)):
            return done
    write_report(out, rejects, listing.notices)  # it also says whose the tar files beside it are
    clear_stale(out / SPOOLS)
    jobs = [Job(item, spool_path(out, number)) for number, item in enumerate(sources)]
    with ExitStack() as stack:
        stack.callback(_remove_spools, jobs)
        writers = {
            name: stack.enter_context(SplitWriter(folder, options, old.get(name)))
            for name, folder in _folders(out).items()
        }
        found = mapper(partial(windows, options), jobs, lambda share: on_source(ended + share, len(jobs)))
        stack.callback(found.close)  # first of all, so that nothing writes what is removed
        splits, owner, ended = _split([*half, *sources], options.validation, sides), _owners(old), 0
        for ended, (job, result) in enumerate(zip(jobs, found, strict=True), 1):
            path = job.source.path
            for item in [Reject(path, None, result)] if isinstance(result, str) else result:
                if isinstance(item, Window) and item.sha256 in owner:
                    rejects.append(
                        Reject(path, item.first, f"the same frames are in another clip: in {owner[item.sha256]}")
                    )
                elif isinstance(item, Window):
                    owner[item.sha256] = path
                    writers[splits[path]].add(path, item, job.spool)
                elif isinstance(item, Reject):
                    rejects.append(item)
                else:
                    listing.notices.append(item)
            remove(job.spool)
            on_source(ended, len(jobs))
        write_report(out, rejects, listing.notices)
        if not writers["train"].clips:
            raise LabError(f"no clip of {source} can be used{_reasons(rejects)}: the reasons are in {out / REJECTS}")
        for name in ("validation", "train"):  # the manifest in `out` comes last: with it, all is complete
            writers[name].finish(name, digest)
    return Ingested(len(sources), writers["train"].clips, writers["validation"].clips, len(rejects))


def look(
    source: Path,
    out: Path,
    options: IngestOptions,
    captions: Path | None = None,
    columns: Mapping[str, str] | None = None,
    add: bool = False,
) -> Listing:
    """What there is to ingest: opens no clip, so that a mistake is told before any work.

    Raises:
        LabError: nothing to read; a table that is none; `out` lies in the folder that is read, or is no dataset to
            which clips can be added with these options.
    """
    if add:
        _require_same(out, _existing(out)["train"].config, options)
    else:
        _require_free(out, _wanted(options, world="ingested"))
    if source.is_dir() and captions is None and out.resolve().is_relative_to(source.resolve()):
        raise LabError(f"{out} lies inside {source}, which is to be read: choose a folder outside it")
    listing = list_sources(source, captions, columns, options.takes_images)
    if not listing.sources:
        raise _nothing(source, listing.rejects)
    return listing


def _nothing(source: Path, rejects: list[Reject]) -> LabError:
    return LabError(f"{source} holds no clip with a caption{_reasons(rejects)}: see `t2v ingest --help`")


def _split(sources: list[Source], share: float, sides: Mapping[str, Subset]) -> dict[str, Subset]:
    """Which source goes where: the given share, rounded, or less where whole groups do not make it up, in an order that
    only names decide; one stays to train on. Groups that have a side already go there."""
    groups: dict[str, list[str]] = {}
    for item in sources:
        groups.setdefault(item.group or item.path, []).append(item.path)
    left = min(round(share * len(sources)), len(sources) - 1)
    found: dict[str, Subset] = {}
    for name in sorted(groups, key=lambda name: (name not in sides, hashlib.sha256(name.encode()).digest(), name)):
        side = sides.get(name, "validation" if len(groups[name]) <= left else "train")
        left -= len(groups[name]) if side == "validation" else 0
        found |= dict.fromkeys(groups[name], side)
    return found


def _sides(sources: list[Source], old: Mapping[Subset, Manifest]) -> dict[str, Subset]:
    """Where the files of groups lie in the dataset that is there, as far as the table still names one of each."""
    where = {path: name for name, manifest in old.items() for path in manifest.table["source"].unique().to_pylist()}
    return {item.group: where[item.path] for item in sources if item.group and item.path in where}


def _half_added(sources: list[Source], old: Mapping[Subset, Manifest]) -> list[Source]:
    """Files that are in validation already by an addition of the same ones that was stopped before the others were in
    training: they count for the share."""
    if "validation" not in old:
        return []
    train, validation = (cast(IngestConfig, old[name].config) for name in ("train", "validation"))
    if validation.source_sha256 in {state.source_sha256 for state in train.now}:
        return []
    first = validation.before[-1].clips if validation.before else 0
    new = set(old["validation"].table["source"][first:].to_pylist())
    there = {path for manifest in old.values() for path in manifest.table["source"].unique().to_pylist()} - new
    asked = [item for item in sources if item.path not in there]
    same = _digested(asked, [])[1] == validation.source_sha256
    return [item for item in asked if same and item.path in new]


def _existing(out: Path) -> dict[Subset, Manifest]:
    """The dataset in `out`, to which clips can be added, by split.

    Raises:
        LabError: there is none, or it is not of people's own clips, or another version of the ingest made it.
    """
    if not (out / MANIFEST).is_file():
        raise LabError(f"{out} holds no dataset to add to: leave --add out to make one")
    found: dict[Subset, Manifest] = {}
    for name, folder in _folders(out).items():
        if (folder / MANIFEST).is_file():
            metadata = read_metadata(folder / MANIFEST)
            found[name] = Manifest.load(folder)
            if found[name].config.command != IngestConfig.command:
                raise LabError(f"{folder} holds rendered clips, to which no others are added: choose another folder")
            if metadata["config_digest"] != config_digest(metadata["config"]):
                raise LabError(f"another version of the ingest made {folder}, other than this: ingest all files again")
    return found


def options_of(out: Path) -> IngestOptions:
    """The options that the dataset in `out` was made with.

    Raises:
        LabError: there is none to which clips can be added.
    """
    config = _existing(out)["train"].config
    return IngestOptions.model_validate({name: getattr(config, name) for name in IngestOptions.model_fields})


def _require_same(out: Path, there: DataConfig, options: IngestOptions) -> None:
    """See that clips are added with the options that a dataset was made with.

    Raises:
        LabError: naming those that differ.
    """
    asked = options.model_dump(exclude={"spec"} if options.shapes else None)
    old, new = sides_alike(flatten(there.model_dump()), flatten(asked))
    changes = [f"{key} {_told(old.get(key))} and not {_told(new[key])}" for key in new if old.get(key) != new[key]]
    if changes:
        raise LabError(f"{out} was made with {', '.join(changes)}: leave that out, clips that are added are alike")


def _told(value: object) -> str:
    """A setting in a sentence: shapes by their names."""
    shapes = value if isinstance(value, tuple) and value and isinstance(value[0], dict) else None
    if shapes:
        return in_a_row(map(ClipSpec.model_validate, shapes))
    return "none" if value is None or value == () else repr(value)


def _leave_out(listing: Listing, old: Mapping[Subset, Manifest]) -> None:
    """Leave out the files that are in the dataset, by their names."""
    there = {path for manifest in old.values() for path in manifest.table["source"].unique().to_pylist()}
    known = [item.path for item in listing.sources if item.path in there]
    listing.rejects += [Reject(path, None, KNOWN) for path in known]
    listing.sources = [item for item in listing.sources if item.path not in there]


def _keep_reported(listing: Listing, out: Path) -> None:
    """Add what was told of the dataset in `out`, but for files that are read or told of anew."""
    rejects, notices = read_report(out)
    anew = {item.path for item in listing.sources}
    told = {reject.path for reject in listing.rejects if reject.reason != KNOWN}
    listing.rejects += [item for item in rejects if item.path not in anew | told and item.reason != KNOWN]
    listing.notices += [item for item in notices if item.path not in anew]


def _owners(old: Mapping[Subset, Manifest]) -> dict[bytes, str]:
    """By the digest of its bytes, the source of every clip that is there."""
    return {
        sha256: path
        for manifest in old.values()
        for sha256, path in zip(
            manifest.table["frames_sha256"].to_pylist(), manifest.table["source"].to_pylist(), strict=True
        )
    }


def _folders(out: Path) -> dict[Subset, Path]:
    return {"train": out, "validation": out / VALIDATION}


def _digested(sources: list[Source], rejects: list[Reject]) -> tuple[list[Source], str]:
    """The sources that can be read, and one digest of them all."""
    readable, digest = [], hashlib.sha256()
    for item in sources:
        try:
            digest.update(source_digest(item).encode())
            readable.append(item)
        except OSError as error:
            rejects.append(Reject(item.path, None, f"it cannot be read: {error.strerror}"))
    return readable, digest.hexdigest()


def _remove_spools(jobs: list[Job]) -> None:
    for job in jobs:
        remove(job.spool)


def _wanted(options: IngestOptions, **more: str) -> dict[str, object]:
    """What a dataset of these options says of itself, with what it leaves out."""
    said: dict[str, object] = {"source_fps": None, "shapes": None} | options.model_dump(mode="json") | more
    if options.shapes:
        del said["spec"]  # one of the shapes: that of most clips, which is found out
    return flatten(said)


def _require_free(out: Path, wanted: Mapping[str, object]) -> None:
    """See that `out` holds nothing, or what is wanted, complete or not.

    Raises:
        LabError: it holds another dataset: naming what differs.
    """
    for folder in _folders(out).values():
        for path in (folder / MANIFEST, *sorted(folder.glob("shard-*.parquet"))[:1]):
            metadata = read_metadata(path)
            if "config" not in metadata:
                continue
            old, new = sides_alike(flatten(json.loads(metadata["config"])), wanted)
            keys = [key for key, value in new.items() if old.get(key) != value]
            changes = [f"{key} is {old.get(key)!r} there and {new[key]!r} now" for key in keys]
            advice = "give --add to add files to it" if keys in ([], ["source_sha256"]) else "delete it"
            if not keys and old.get("before"):
                changes = ["files were added to it"]
            elif not keys and metadata.get("config_digest") != config_digest(metadata["config"]):
                changes, advice = ["another version of the ingest made it"], "delete it"
            if changes:
                what = f"{folder} holds another dataset ({', '.join(changes)})"
                raise LabError(f"{what}: choose another folder or {advice}")
        if any((*folder.glob("shard-*"), *folder.glob(MANIFEST))) and not (out / REJECTS).is_file():
            raise LabError(f"{folder} holds shards or a manifest of something else: choose another folder")


def _finished(out: Path, sources: int) -> Ingested | None:
    """The counts of the dataset in `out`, if it is complete."""
    try:
        train = Manifest.load(out).config.clips
        folder = out / VALIDATION
        validation = Manifest.load(folder).config.clips if (folder / MANIFEST).is_file() else 0
        return Ingested(sources, train, validation, pq.read_metadata(out / REJECTS).num_rows)
    except (LabError, OSError, pa.ArrowException):
        return None


def _reasons(rejects: list[Reject]) -> str:
    """Of what kind most are, by one of them: a file that is no film may come before all films."""
    if not rejects:
        return ""
    kinds = [re.sub(r"[0-9]+", "0", reject.reason) for reject in rejects]
    most, count = Counter(kinds).most_common(1)[0]
    one = rejects[kinds.index(most)]
    others = f"{count} as" if count < len(rejects) else "the first,"
    return f" ({len(rejects)} rejected; {others} {one.path}: {one.reason})"
