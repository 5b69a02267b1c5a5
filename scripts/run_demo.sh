#!/bin/sh
# run_demo.sh PROGRAM - what `make run` does once the program is built.
#
# With SUPABASE_URL it runs the proxy in front of that, and that is all.  Without, it makes a PostgreSQL to
# stand there instead: in a directory of its own under /tmp, on a free port of 127.0.0.1, never as root, with
# exactly 60 connections free for others than superusers, a role `scraper` with a random password and a table
# `jobs`.  Ctrl-C or TERM stops the proxy, then that server, and removes the directory.
#
# The proxy and the server each live outside the terminal's process group, so that Ctrl-C reaches this script
# alone: a server that dies before the proxy has said goodbye would make a clean stop look like a failure.
set -u
program=${1:-build/pgreserve}
bin=${PGRESERVE_PG_BIN:-/usr/lib/postgresql/15/bin}
dir=
proxy=

fail() {
    printf 'make run: %s\n' "$*" >&2
    exit 1
}

# True when somebody listens on this TCP port of this host (0A is LISTEN in /proc/net/tcp).
listens() {
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v port="$(printf ':%04X' "$1")" '$4 == "0A" && substr($2, length($2) - 4) == port { found = 1 }
            END { exit !found }'
}

# The server's programs refuse to be root; the package made a user for them.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd "$dir" && setpriv --reuid=postgres --regid=postgres --init-groups env HOME="$dir" "$@")
    else
        (cd "$dir" && "$@")
    fi
}

random_hex() {
    od -An -v -N 12 -t x1 /dev/urandom | tr -d ' \n'
}

start_server() {
    [ -x "$bin/initdb" ] || fail "there is no PostgreSQL 15 in $bin; scripts/install_dependencies.sh run installs it"
    pg_port=31432 # below those that the system gives to outgoing connections, which listens() does not see
    while listens "$pg_port"; do pg_port=$((pg_port + 1)); done
    password=$(random_hex)

    dir=$(mktemp -d "${TMPDIR:-/tmp}/pgreserve-demo.XXXXXX") || fail "cannot make a temporary directory"
    [ "$(id -u)" -ne 0 ] || chown postgres "$dir"
    printf 'Starting a throwaway PostgreSQL in %s\n' "$dir"
    # The socket lies in a directory that only its owner can enter, and the superuser has no password for TCP.
    as_postgres "$bin/initdb" -D "$dir/data" -U postgres --auth-local=trust --auth-host=scram-sha-256 \
        -E UTF8 --locale=C.UTF-8 --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; fail "initdb failed"; }
    # 63 connections less 3 for superusers: what a small hosted plan grants.
    cat >>"$dir/data/postgresql.conf" <<END
listen_addresses = '127.0.0.1'
port = $pg_port
unix_socket_directories = '$dir'
max_connections = 63
superuser_reserved_connections = 3
fsync = off
END
    # pg_ctl starts the server in a session of its own.
    as_postgres "$bin/pg_ctl" start -w -t 60 -s -D "$dir/data" -l "$dir/server.log" ||
        { cat "$dir/server.log" >&2; fail "PostgreSQL did not start"; }
    as_postgres "$bin/psql" -X -q -v ON_ERROR_STOP=1 -h "$dir" -p "$pg_port" -U postgres -d postgres <<END ||
CREATE ROLE scraper LOGIN PASSWORD '$password';
GRANT CREATE ON SCHEMA public TO scraper;
CREATE TABLE jobs (id bigint PRIMARY KEY, url text NOT NULL, fetched_at timestamptz, status int);
ALTER TABLE jobs OWNER TO scraper;
INSERT INTO jobs SELECT n, 'http://example.org/page/' || n FROM generate_series(1, 10000) n;
END
        fail "cannot load the demo's table"
    # Whatever else the environment says about an upstream is not meant for this one.
    unset POSTGRES_DB POSTGRES_USER POSTGRES_PASSWORD
    export SUPABASE_URL="postgresql://scraper:$password@127.0.0.1:$pg_port/postgres"
}

# INT, TERM and HUP: the first asks the proxy to stop when its transactions are done, the second at once.
ask_to_stop() {
    [ -n "$proxy" ] || exit 130
    kill -TERM "$proxy" 2>/dev/null
}

clean_up() {
    if [ -n "$dir" ]; then
        [ ! -f "$dir/data/postmaster.pid" ] || as_postgres "$bin/pg_ctl" stop -s -m fast -D "$dir/data"
        rm -rf "$dir"
        printf 'The throwaway PostgreSQL is gone.\n'
    fi
    dir=
}

# postgresql://USER:PASSWORD@HOST:PORT/DATABASE?...: the password is never printed back unless it is the demo's own.
print_lines() {
    rest=${SUPABASE_URL#*://}
    user=$(printf '%s' "$rest" | sed -n 's|^\([^:@/]*\)[:@].*|\1|p')
    database=$(printf '%s' "$rest" | sed -n 's|^[^/]*/\([^?]*\).*|\1|p')
    user=${POSTGRES_USER:-${user:-USER}}
    database=${POSTGRES_DB:-${database:-$user}}
    secret=${password:-PASSWORD}
    cat <<END

pgreserve stands in front of ${dir:+a throwaway }PostgreSQL${dir:+ with 60 free connections}.

  scrapers     DATABASE_URL=postgresql://$user:$secret@127.0.0.1:6432/$database
  developers   psql postgresql://$user:$secret@127.0.0.1:6433/$database
  ops          psql postgresql://$user:$secret@127.0.0.1:6434/pgreserve -c 'SHOW POOLS'
  status       curl http://127.0.0.1:6435/status   or   $program status

Ctrl-C stops it.

END
}

[ -x "$program" ] || fail "there is no $program; run make first"
for port in 6432 6433 6434 6435; do
    ! listens "$port" || fail "port $port is taken: another pgreserve or pooler runs here; stop it first"
done

trap clean_up EXIT
trap ask_to_stop INT TERM HUP
[ -n "${SUPABASE_URL:-}" ] || start_server

setsid "$program" run &
proxy=$!
tries=0
while ! listens 6435 && kill -0 "$proxy" 2>/dev/null && [ "$tries" -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
! listens 6433 || print_lines

# wait returns early when a signal comes in, so it is asked until the proxy is really gone.
status=0
while kill -0 "$proxy" 2>/dev/null; do
    wait "$proxy"
    status=$?
done
exit "$status"
