"""The databases of both servers in PostgreSQL. Its driver is an extra: `t2v-lab[postgres]`."""

from urllib.parse import urlsplit

from t2v_models.config import LabError

NAMES = {"prefect": "t2v_prefect", "mlflow": "t2v_mlflow"}
"""One database each: both keep the number of their schema in a table of the same name."""
SCHEMES = {"prefect": "postgresql+asyncpg", "mlflow": "postgresql+psycopg"}
CONNECT_SECONDS = 10


def databases(url: str) -> dict[str, str]:
    """The URL of each server's database on a PostgreSQL server; a missing one is created.

    Args:
        url: `postgresql://user:password@host:5432/database`; the database, `postgres` by default, is only connected
            to, the lab's own are made beside it.

    Raises:
        LabError: the driver is missing, nothing answers, or the user may not create databases.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres") or not parts.hostname:
        raise LabError(
            f"--postgres has the scheme {parts.scheme!r}: write it as postgresql://user:password@host:5432, "
            "the databases are created there"
        )
    try:
        import psycopg
        from psycopg import sql
    except ImportError as error:
        raise LabError("PostgreSQL's driver is not installed: install t2v-lab[postgres]") from error
    entry = parts._replace(scheme="postgresql", path=parts.path.rstrip("/") or "/postgres").geturl()
    try:
        with psycopg.connect(entry, autocommit=True, connect_timeout=CONNECT_SECONDS) as server:
            found = {name for (name,) in server.execute("SELECT datname FROM pg_database")}
            for name in sorted(set(NAMES.values()) - found):
                server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        # the message, never the URL: it may hold a password
        reason = str(error).strip().splitlines()[0]
        raise LabError(
            f"PostgreSQL at {parts.hostname}:{parts.port or 5432} refuses ({reason}): check the address and the "
            f"user, or create {' and '.join(NAMES.values())} there"
        ) from error
    return {who: parts._replace(scheme=SCHEMES[who], path=f"/{name}").geturl() for who, name in NAMES.items()}
