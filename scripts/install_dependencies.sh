#!/bin/sh
# install_dependencies.sh SET... - installs the Debian packages of the named sets that are missing.
#
# Sets: build, run (the throwaway PostgreSQL of `make run`), test, fuzz, coverage, bench, deb, image.
# Nothing happens when nothing is missing, so every `make run` and `make test` may ask.  Each package is
# named with its reason before anything changes.  Installing needs root, or sudo where it is installed;
# without either the command to run stands on stderr and the status is 1.
set -u
sets=" $* "
root=$(cd "$(dirname "$0")/.." && pwd)

packages() {
    cat <<'END'
build gcc                      the C compiler
build libc6-dev                headers of the C library
build pkg-config               tells the compiler where libraries are
build libpq-dev                PostgreSQL's own client library: upstream logins
build libevent-dev             the event loop
build libinih-dev              reads the configuration file
build libssl-dev               TLS and SCRAM
build uthash-dev               hash tables
build libjansson-dev           JSON for /status.json and pgreserve status
run postgresql-15              the throwaway server of `make run` and of the tests
run postgresql-client-15       psql
test postgresql-15             the server that the tests run against
test postgresql-client-15      psql and pgbench
test libcmocka-dev             unit tests
test python3                   runs the tests
test python3-pytest            integration tests
test python3-pytest-xdist      runs them side by side
test python3-psycopg2          a client that users have
test python3-psycopg           a client that users have
test python3-asyncpg           a client that users have
test python3-sqlalchemy        a client that users have
test python3-hypothesis        random input for tests
test clang                     the second compiler, and its warnings
test libclang-rt-14-dev        clang's sanitizer and fuzzer library
test clang-format              checks how the code is laid out
test clang-tidy                finds faults by reading the code
test cppcheck                  finds faults by reading the code
test libpostgresql-jdbc-java   a client that users have (JDBC)
test default-jdk-headless      runs the JDBC client
test procps                    ps and kill for the tests
test openssl                   certificates for the tests
test curl                      what README.md asks the HTTP listener with
test check-postgres            a monitor that reads the console
test prometheus-pgbouncer-exporter  a monitor that reads the console
test pgbouncer                 an upstream that is itself a pooler
test systemd                   checks the units, and rates their sandbox
test mandoc                    checks the manual pages
test valgrind                  counts the instructions of a transaction
test prometheus                scrapes /metrics and fires the alert rules; promtool checks both
test docker-compose            reads docker-compose.yml by its schema; no engine is needed
test chromium                  shows the page
test chromium-driver           drives it
test python3-selenium          tells the driver what to do
test fonts-dejavu-core         letters for it
fuzz clang                     the compiler that has libFuzzer
fuzz libclang-rt-14-dev        libFuzzer and the sanitizers
fuzz python3                   runs the targets one after the other
coverage gcovr                 sums up which lines the tests reached
bench postgresql-15            the server that both proxies stand in front of
bench postgresql-client-15     pgbench
bench python3                  runs the comparison
bench python3-psycopg2         sets up the server
bench openssl                  a certificate for the server
bench pgbouncer                what pgreserve is compared with
bench haproxy                  likewise: the limit, for in TCP mode it understands nothing
bench pgpool2                  likewise
bench gnuplot-nox              draws the picture
bench strace                   counts system calls
bench util-linux               gives a proxy another user
deb build-essential            what every package is built with
deb debhelper                  makes the package
deb dpkg-dev                   makes the package
deb libcmocka-dev              unit tests run while it is made
deb python3                    runs the unit tests while it is made
deb lintian                    finds faults in it
image buildah                  builds images without a daemon
END
}

is_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

# Debian's node-pg belongs to Debian's nodejs; a node from elsewhere gets its `pg` from npm, further down.
node_is_foreign() {
    command -v node >/dev/null && ! dpkg-query -W -f '${Version}' nodejs 2>/dev/null | grep -q dfsg
}

wanted() {
    packages | while read -r set package reason; do
        case $sets in *" $set "*) printf '%s %s\n' "$package" "$reason" ;; esac
    done
    case $sets in *" test "*)
        node_is_foreign || printf '%s\n' 'nodejs runs the node client' 'node-pg a client that users have (node)'
    esac
}

missing=$(wanted | sort -u -k 1,1 | while read -r package reason; do
    is_installed "$package" || printf '%-26s %s\n' "$package" "$reason"
done)

if [ -n "$missing" ]; then
    names=$(printf '%s\n' "$missing" | awk '{ printf "%s ", $1 }')
    printf 'These Debian packages are missing:\n'
    printf '%s\n' "$missing" | sed 's/^/    /'

    if ! command -v apt-get >/dev/null; then
        printf 'There is no apt-get here: install their like by hand, then run this again.\n' >&2
        exit 1
    elif [ "$(id -u)" -eq 0 ]; then
        as_root=
    elif command -v sudo >/dev/null; then
        as_root=sudo
        printf 'Installing them needs root: asking sudo.\n'
    else
        printf 'Installing them needs root and there is no sudo.  As root, run:\n' >&2
        printf '    apt-get update && apt-get install -y --no-install-recommends %s\n' "$names" >&2
        exit 1
    fi

    # The server package would create and start a cluster of its own, which nobody here asked for.
    case $names in *postgresql*)
        if ! is_installed postgresql-common && [ ! -e /etc/postgresql-common/createcluster.conf ]; then
            $as_root mkdir -p /etc/postgresql-common
            printf 'create_main_cluster = false\n' |
                $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
        fi ;;
    esac

    apt() { # noninteractive, and a configuration file that is there already stays
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Dpkg::Use-Pty=0 \
            -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@"
    }
    # shellcheck disable=SC2086  # names are words
    install_all() { apt install --no-install-recommends $names; }

    ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1 || apt update || exit 1
    if ! install_all; then
        printf 'Perhaps the package lists are old: reading them again.\n'
        { apt update && install_all; } || exit 1
    fi

    # Debian starts these at once, pgbouncer on 6432, which is our own port, and prometheus on every address: they are
    # wanted for being run privately.
    for service in pgbouncer haproxy pgpool2 prometheus-pgbouncer-exporter prometheus; do
        case " $names" in *" $service "*)
            if [ -d /run/systemd/system ]; then
                $as_root systemctl --quiet disable --now "$service" ||
                    printf 'The service %s could not be stopped.\n' "$service" >&2
            else
                $as_root service "$service" stop >/dev/null 2>&1
                $as_root update-rc.d "$service" disable >/dev/null 2>&1
            fi ;;
        esac
    done
fi

# Without npm or the network this one client's tests are skipped, and say so: not a reason to stop.
case $sets in *" test "*)
    if node_is_foreign && ! [ -d "$root/build/node/node_modules/pg" ]; then
        printf 'node comes from outside Debian; fetching its client pg with npm into build/node\n'
        mkdir -p "$root/build/node"
        if ! command -v npm >/dev/null; then
            printf 'There is no npm: tests of the node client will be skipped.\n'
        elif ! npm install --prefix "$root/build/node" --no-audit --no-fund --silent pg 2>&1 | grep -v '^npm warn'; then
            [ -d "$root/build/node/node_modules/pg" ] ||
                printf 'npm could not fetch it: tests of the node client will be skipped.\n'
        fi
    fi ;;
esac
exit 0
