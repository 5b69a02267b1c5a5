#!/usr/bin/python3
"""A sample scraper: many workers, each with short transactions, on whatever connections pgreserve grants.

    DATABASE_URL=postgresql://USER:PASSWORD@127.0.0.1:6432/postgres python3 scraper.py [PAGES] [WORKERS]

It makes a table `pages`, pretends to fetch PAGES pages (0, or nothing: until Ctrl-C) with WORKERS threads (20), and
stores each in a transaction of its own.  Two habits make it a good neighbour: a name by which the operators know it
(application_name), and no transaction open while it waits for the network.
"""

import concurrent.futures
import itertools
import random
import sys
import time

from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from database import DATABASE_URL

TRIES = 5

engine = create_engine(DATABASE_URL, poolclass=NullPool, connect_args={"application_name": "sample-scraper"})


def fetch(number):
    """The network, which takes its time: no connection is held meanwhile."""
    time.sleep(random.uniform(0.01, 0.05))
    return f"page {number}"


def is_worth_another_try(error):
    """No connection in time, or one that was lost: both are over in a moment."""
    return error.connection_invalidated or getattr(error.orig, "pgcode", None) in ("53300", "57P01", "08006", None)


def store(number, body):
    for attempt in range(1, TRIES + 1):
        try:
            with engine.begin() as connection:
                connection.execute(text("INSERT INTO pages (number, body) VALUES (:number, :body)"
                                        " ON CONFLICT (number) DO UPDATE SET body = excluded.body"),
                                   {"number": number, "body": body})
            return
        except OperationalError as error:
            if attempt == TRIES or not is_worth_another_try(error):
                raise
            print(f"page {number}, once more: {str(error.orig).splitlines()[0]}", file=sys.stderr)
            time.sleep(random.uniform(0.5, 1) * attempt)


def scrape(number):
    store(number, fetch(number))


def main():
    pages = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 20
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS pages (number bigint PRIMARY KEY, body text NOT NULL)"))
    done = 0
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        numbers = iter(range(1, pages + 1)) if pages else itertools.count(1)
        while batch := list(itertools.islice(numbers, 1000)):
            for _ in pool.map(scrape, batch):
                done += 1
            print(f"{done} pages", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
