"""Sizes of clips by the forms of people's own files: a few, of about the same number of pixels, that cut little off."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from t2v_models.config import LabError
from t2v_models.shards.decode import shown, shown_size
from t2v_models.shards.ingested import IngestOptions
from t2v_models.shards.isolated import Mapper
from t2v_models.shards.picture import Told
from t2v_models.shards.windows import Job, nearest

STRIDE = 8
"""px: both sides are multiples of it, which networks can halve three times."""
SLACK = 0.15
"""Share by which the number of pixels may differ from what was asked for."""
MOST = 5
"""Sizes; each is a bucket, or several of other lengths, and wants clips for a batch."""
WORTH = 0.02
"""Of the files' area, on average, what one more size must keep from being cut off."""
CONSIDERED = 12
"""Sizes among which is chosen: those that are nearest to the most files."""


def with_chosen_sizes(
    options: IngestOptions, jobs: list[Job], mapper: Mapper
) -> tuple[IngestOptions, dict[tuple[int, int], int]]:
    """The options with sizes for these files, in every length that they name; and how many files each size is for.

    Args:
        options: of one size, which says how many pixels.
        jobs: the files; those that cannot be opened have no say.
        mapper: as of an ingest.

    Raises:
        LabError: none can be opened.
    """
    found = mapper(_form, jobs, lambda share: None)
    forms = [form for form in found if not isinstance(form, str)]
    if not forms:
        raise LabError(f"none of {len(jobs)} files can be opened, so none says which size to choose: name --sizes")
    spec = options.spec
    sizes = chosen(forms, spec.width * spec.height)
    specs = {size: spec.model_copy(update={"height": size[0], "width": size[1]}) for size in sizes}
    files = Counter(nearest(list(specs.values()), form, 1).shape[1:3] for form in forms)
    lengths = dict.fromkeys(one.frames for one in options.all_shapes)
    shapes = [specs[size].model_copy(update={"frames": frames}) for size in sizes for frames in lengths]
    given = {"shapes": shapes} if len(shapes) > 1 else {"spec": shapes[0], "shapes": ()}
    kept = options.model_dump(exclude={"spec", "shapes"})
    return IngestOptions.model_validate(kept | given), {size: files[size] for size in sizes}


def chosen(forms: Sequence[float], pixels: int) -> list[tuple[int, int]]:
    """Heights and widths for pictures of these forms, width over height: as few as cut little off, the widest first."""
    usual = Counter(round(math.log(form), 2) for form in forms)
    sizes = _sizes(pixels)
    wanted = Counter[tuple[int, int]]()
    for form, files in usual.items():
        wanted[min(sizes, key=lambda size: (_cut(form, size), size))] += files
    candidates = [size for size, _ in wanted.most_common(CONSIDERED)]

    def lost(few: Sequence[tuple[int, int]]) -> float:
        return sum(files * min(_cut(form, size) for size in few) for form, files in usual.items()) / len(forms)

    best = min(combinations(candidates, 1), key=lost)
    for count in range(2, min(MOST, len(candidates)) + 1):
        more = min(combinations(candidates, count), key=lost)
        if lost(best) - lost(more) < WORTH:
            break
        best = more
    return sorted(best, key=lambda size: -size[1] / size[0])


def _sizes(pixels: int) -> list[tuple[int, int]]:
    """Heights and widths on the stride with about so many pixels."""
    least, most = 16, 512  # of a side of a clip
    sides = range(-(-least // STRIDE) * STRIDE, most + 1, STRIDE)
    near = [(h, w) for h in sides for w in sides if abs(math.log(h * w / pixels)) <= math.log1p(SLACK)]
    return near or [min(((h, w) for h in sides for w in sides), key=lambda size: abs(size[0] * size[1] - pixels))]


def _cut(form: float, size: tuple[int, int]) -> float:
    """Share of a picture's area that is cut off; `form` is the logarithm of width over height."""
    return 1 - math.exp(-abs(form - math.log(size[1] / size[0])))


def _form(job: Job) -> float | str:
    """Width over height of the first picture of a file as a player shows it, or why there is none."""
    try:
        width, height = shown_size(next(iter(shown(job.source.file, 1.0, Told()))))
    except StopIteration:
        return "it has no picture"
    except Exception as error:  # as of decoders of foreign bytes: the ingest tells the reason
        return str(error) or type(error).__name__
    return width / height
