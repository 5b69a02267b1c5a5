"""Counts the proxy's connections as the server's own table shows them, every 5 ms.

sampler.py SOCKET_DIRECTORY PORT USER: runs as a process of its own (the test's threads would slow it
down) until its standard input ends, then prints what it saw as JSON.  pg_stat_activity is read row by
row, so a connection that ends and its successor might both be seen by a reader that was interrupted
between them; rows that began after the statement did are therefore left out: what remains was there at
one instant, the statement's beginning.
"""

import json
import statistics
import sys
import threading
import time

import psycopg2

PERIOD = 0.005
COUNT = """
SELECT count(*), count(*) FILTER (WHERE datname = 'app'), count(*) FILTER (WHERE datname = 'dev')
  FROM pg_stat_activity
 WHERE usename = %s AND backend_type = 'client backend' AND backend_start <= statement_timestamp()
"""


def main():
    directory, port, user = sys.argv[1:]
    connection = psycopg2.connect(host=directory, port=port, user="postgres", dbname="postgres")
    connection.autocommit = True
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("ready", flush=True)
    most, times, busy_samples = [0, 0, 0], [], 0
    with connection.cursor() as cursor:
        while not ended.is_set():
            started = time.monotonic()
            times.append(started)
            cursor.execute(COUNT, (user,))
            counts = cursor.fetchone()
            most = [max(pair) for pair in zip(most, counts)]
            busy_samples += counts[0] >= 60
            time.sleep(max(0.0, PERIOD - (time.monotonic() - started)))
    gaps = [later - earlier for earlier, later in zip(times, times[1:])]
    print(json.dumps({"samples": len(times), "median_gap": statistics.median(gaps),
                      "longest_gap": max(gaps), "samples_at_the_cap": busy_samples,
                      "all": most[0], "automation": most[1], "adhoc": most[2]}))


main()
