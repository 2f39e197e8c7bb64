"""Where a study is kept: SQLite beside its page, or a database that many machines reach."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy.exc
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback
from sqlalchemy.engine import make_url

from squeezekit.errors import UserError

__all__ = ["LOST_AFTER", "open_storage", "reachable"]

#: A worker that gave no sign of life for so many intervals is taken for dead.
LOST_AFTER = 3

#: How often a new storage is opened while others make it: within five seconds they are done.
_TRIES = 10


def open_storage(url: str | None, out: Path, heartbeat: int) -> RDBStorage:
    """Open the storage of a study.

    While a worker trains, it says so every `heartbeat` seconds. A trial whose worker fell silent is put back
    into the queue with its design and its seed, and the next worker takes it.

    Parameters
    ----------
    url
        ``postgresql://user@host/database``, or another URL of SQLAlchemy's; None: ``study.db`` in `out`.
    out
        The study folder; exists.
    heartbeat
        Seconds.

    Raises
    ------
    UserError
        It cannot be reached, its driver is not installed, or it holds something else.
    """
    address = _address(url) if url is not None else f"sqlite:///{out / 'study.db'}"
    lite = address.startswith("sqlite")
    # SQLite has one writer at a time: the others wait. Connections to a server may have gone meanwhile.
    engine: dict[str, Any] = {"connect_args": {"timeout": 100}} if lite else {"pool_pre_ping": True}
    with warnings.catch_warnings(), reachable(address):
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _together(
            lambda: RDBStorage(
                address,
                engine_kwargs=engine,
                heartbeat_interval=heartbeat,
                grace_period=LOST_AFTER * heartbeat,
                heartbeat_stale_trial_callback=RetryHeartbeatStaleTrialCallback(),
            )
        )


def _together(opened: Callable[[], RDBStorage]) -> RDBStorage:
    """Open a storage that other workers may be making: what one wants to make, another just has."""
    for wait in range(1, _TRIES):
        try:
            return opened()
        except sqlalchemy.exc.DBAPIError as error:
            twice = isinstance(error, sqlalchemy.exc.IntegrityError) or "already exists" in str(error.orig)
            if not twice:
                raise
        time.sleep(0.1 * wait)
    return opened()


def _address(url: str) -> str:
    """Name the driver that comes with the extra ``postgresql``."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise UserError(f"--storage {url}: no address (expected postgresql://user@host/database)")
    return f"postgresql+psycopg://{rest}" if scheme in ("postgresql", "postgres") else url


@contextmanager
def reachable(address: str) -> Iterator[None]:
    """Turn what databases complain of into one line, without the password.

    Raises
    ------
    UserError
        In place of SQLAlchemy's errors.
    """
    try:
        shown = make_url(address).render_as_string(hide_password=True).replace("+psycopg://", "://")
        yield
    except sqlalchemy.exc.NoSuchModuleError as error:
        scheme = address.partition("://")[0]
        raise UserError(f"--storage {scheme}://: no such kind of storage (sqlite, postgresql)") from error
    except sqlalchemy.exc.ArgumentError as error:
        raise UserError(
            "--storage: no address of a database (expected postgresql://user@host/database)"
        ) from error
    except sqlalchemy.exc.DBAPIError as error:
        raise UserError(
            f"{shown}: the storage cannot be used ({_reason(error.orig)}; what is finished is kept: "
            "start the same command again)"
        ) from error
    except optuna.exceptions.StorageInternalError as error:
        reason = _reason(error.__cause__ or error)
        raise UserError(
            f"{shown}: the storage cannot be used ({reason}; what is finished is kept: "
            "start the same command again)"
        ) from error
    except ImportError as error:
        scheme = address.partition("://")[0]
        if scheme.startswith("postgresql"):
            needed, mend = error.name or "its driver", 'pip install "squeezekit[postgresql]"'
        else:
            needed, mend = f"a driver of SQLAlchemy's for {scheme}", "take sqlite or postgresql"
        raise UserError(f"{shown}: needs {needed}, which is not installed ({mend})") from error


def _reason(error: BaseException | None) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:200] if lines else type(error).__name__
