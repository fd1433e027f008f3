"""The deployments of prefect.yaml, given to the server by a process that reads the flows while that starts.

What the flows import is half of the work, so `t2v up` starts this beside the servers.
"""

import time

import httpx

LOOK_SECONDS = 0.5


def main() -> None:
    """Do what its arguments say to `prefect`, as soon as the server has the pools of the lab."""
    from prefect.cli import app
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    import flows.dataset
    import flows.evaluate
    import flows.lab
    import flows.train  # noqa: F401
    from tasks.servers.orchestration import POOLS

    with get_client(sync_client=True) as client:
        for pool in POOLS:
            while True:
                try:
                    client.read_work_pool(pool)
                    break
                except (httpx.TransportError, ObjectNotFound):  # not up yet, or not that far
                    time.sleep(LOOK_SECONDS)
    app()


if __name__ == "__main__":
    main()
