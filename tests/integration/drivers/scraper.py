"""A scraper as users write them: SQLAlchemy on psycopg2, a small pool, transactions, retries.

scraper.py URL: works until its standard input ends, then prints its counts as JSON: transactions that went
well, connections lost (the tests kill backends), and any other error by its text, of which there should
be none.
"""

import json
import random
import sys
import threading

import sqlalchemy
from sqlalchemy import text

counts = {"transactions": 0, "lost": 0, "errors": {}}
ended = threading.Event()


def one_transaction(engine, dice):
    number = dice.randrange(1, 1000)
    with engine.begin() as connection:
        name = connection.execute(text("SELECT name FROM things WHERE id = :id"),
                                  {"id": number}).scalar()
        if not name.startswith("thing "):
            raise ValueError(f"wrong answer {name!r} for {number}")
        ended.wait(dice.random() * 0.02)
        connection.execute(text("UPDATE counts SET n = n + 1 WHERE id = :id"), {"id": number})


def main():
    engine = sqlalchemy.create_engine(sys.argv[1], pool_size=2, max_overflow=0)
    dice = random.Random()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    while not ended.is_set():
        try:
            one_transaction(engine, dice)
            counts["transactions"] += 1
        except sqlalchemy.exc.DBAPIError as error:
            state = getattr(error.orig, "pgcode", None)
            if error.connection_invalidated or state in ("57P01", "08006"):
                counts["lost"] += 1
            else:
                counts["errors"][str(error)[:300]] = state
        except Exception as error:  # noqa: BLE001 - counted and shown by the test
            counts["errors"][repr(error)[:300]] = None
    print(json.dumps(counts))


main()
