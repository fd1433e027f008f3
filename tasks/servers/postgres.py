"""The databases of both servers in PostgreSQL. Its driver is an extra: `t2v-lab[postgres]`."""

from urllib.parse import urlsplit

from t2v_models.config import LabError

NAMES = {"prefect": "t2v_prefect", "mlflow": "t2v_mlflow"}
"""One database each: both keep the number of their schema in a table of the same name."""
SCHEMES = {"prefect": "postgresql+asyncpg", "mlflow": "postgresql+psycopg"}
CONNECT_SECONDS = 10
FORM = "write it as postgresql://user:password@host:5432, the databases are created there"


def databases(url: str) -> dict[str, str]:
    """The URL of each server's database on a PostgreSQL server; a missing one is created.

    Args:
        url: `postgresql://user:password@host:5432/database`; the database, `postgres` by default, is only connected
            to, the lab's own are made beside it.

    Raises:
        LabError: the URL cannot be read, the driver is missing, nothing answers, or the user may not create databases.
    """
    # the URL, and what is said of a part that cannot be read, may hold a password: neither is shown
    unreadable = LabError(f"--postgres is no URL: {FORM}; in a password write / as %2F, @ as %40 and % as %25")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 5432
    except ValueError:
        raise unreadable from None
    if parts.scheme not in ("postgresql", "postgres") or not host:
        raise LabError(f"--postgres has the scheme {parts.scheme!r}: {FORM}")
    try:
        import psycopg
        from psycopg import conninfo, sql
    except ImportError as error:
        raise LabError("PostgreSQL's driver is not installed: install t2v-lab[postgres]") from error
    entry = parts._replace(scheme="postgresql", path=parts.path.rstrip("/") or "/postgres").geturl()
    try:
        conninfo.conninfo_to_dict(entry)
    except psycopg.ProgrammingError:
        raise unreadable from None
    try:
        with psycopg.connect(entry, autocommit=True, connect_timeout=CONNECT_SECONDS) as server:
            found = {name for (name,) in server.execute("SELECT datname FROM pg_database")}
            for name in sorted(set(NAMES.values()) - found):
                server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0]
        raise LabError(
            f"PostgreSQL at {host}:{port} refuses ({reason}): check the address and the user, or create "
            f"{' and '.join(NAMES.values())} there"
        ) from error
    return {who: parts._replace(scheme=SCHEMES[who], path=f"/{name}").geturl() for who, name in NAMES.items()}
