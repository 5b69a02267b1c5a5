"""Coming from SQLAlchemy's pool: the database.py that had it, line by line, and what is left of it.

    before                                       now
    ---------------------------------------      ----------------------------------------------------------------
    engine = create_engine(
        SUPABASE_URL,                            DATABASE_URL, which leads to pgreserve; SUPABASE_URL is pgreserve's
        poolclass=QueuePool,                     poolclass=NullPool: one pool is enough, and pgreserve has it
        pool_size=50,                            DB_POOL_SIZE=50           size of [pool:automation]
        max_overflow=5,                          DB_MAX_OVERFLOW=5         its max_overflow
        pool_timeout=60,                         DB_POOL_TIMEOUT=60        its timeout
        pool_recycle=1800,                       DB_POOL_RECYCLE=1800      its recycle
        pool_pre_ping=True,                      always                    its pre_ping
    )
    RESERVED = 5  # 60 - 50 - 5, on paper        DB_RESERVED=5             reserved of [pool:adhoc], and really kept

    engine.dispose()                             DISPOSE on the console: every connection is replaced, busy ones when
                                                 they come free
    engine.pool.status()                         pgreserve status, SHOW STATUS, http://127.0.0.1:6435/
    pool.size(), checkedin(), overflow(),        size, available, overflow and in_use of the same, for all processes
        checkedout()                             together
    event "connect", "checkout", "checkin",      log_pool_events = on: a line for each, by the same names; "close" and
        "close"                                  "recycle" too
    event "invalidate"                           the line "ping_failed": older connections of the same upstream are
                                                 then pinged before their next use
    reset_on_return="rollback"                   always; what else a client leaves behind is cleaned too
    TimeoutError: QueuePool limit of size        an OperationalError with SQLSTATE 53300 and nearly the same words:
        50 overflow 5 reached, connection        pool "automation" limit of size 50 overflow 5 reached, connection
        timed out, timeout 60.00                 timed out, timeout 60 s; its DETAIL says who holds them

What was true of one process (each had a pool of 50) is now true of all of them together.
"""

import os

from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql://USER:PASSWORD@127.0.0.1:6432/postgres")

# A connection to pgreserve costs a few milliseconds, on this side of the network: opened when it is needed, closed behind it, nothing to go stale.
engine = create_engine(DATABASE_URL, poolclass=NullPool)


def small_pool_engine(url=DATABASE_URL, **others):
    """For a program that opens so many sessions a second that those count: a few connections of its own.

    They hold nothing of PostgreSQL's while they are idle.  pool_recycle and pool_pre_ping are not needed in front of
    pgreserve, unless client_idle_timeout is set; then pool_recycle must be shorter.
    """
    return create_engine(url, pool_size=2, max_overflow=0, **others)
