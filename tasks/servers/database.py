"""How the Prefect server writes to SQLite.

Prefect begins most of its transactions as readers. One that has read and then writes, while another one has written in
between, is refused by SQLite at once, however long it would wait: it has seen what is no more so. The server answers
503, and its client tries again (PrefectHQ mends this route by route, `with_for_update`; Prefect 3.8.8 has no setting).
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import MODELS_DEPENDENCIES
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class InTurn(AioSqliteConfiguration):
    """Every transaction asks for the right to write before it reads, and waits for it up to a minute."""

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        """A transaction that writes, whatever it says."""
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def write_in_turn() -> None:
    """Let the Prefect server of this process do so, if its database is SQLite; before it is made."""
    url = PREFECT_API_DATABASE_CONNECTION_URL.value()
    if url.startswith("sqlite"):
        MODELS_DEPENDENCIES["database_config"] = InTurn(connection_url=url)
