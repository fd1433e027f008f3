"""Set evaluated runs side by side on one page."""

from pathlib import Path

from prefect import flow

from tasks.compare import compared, log_comparison, write_comparison
from tasks.report.progress import concluded
from tasks.servers.runtime import WORK


@flow(flow_run_name="compare {out.name}")
def compare(runs: list[str], out: Path, work: Path = WORK) -> Path:
    """Write the page of a comparison and put it among the artifacts of every run.

    Args:
        runs: two or more run folders that were evaluated; the first is the base.
        out: folder of the page.
        work: folder of the MLflow store.
    """
    sides = compared([Path(run) for run in runs], work)
    page = write_comparison(out, sides)
    log_comparison(work, out, sides)
    return concluded(page, f"{' beside '.join(side.name for side in sides)}: {page}")
