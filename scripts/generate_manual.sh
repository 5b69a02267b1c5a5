#!/bin/sh
# generate_manual.sh PROGRAM [PAGE] - puts the options of PROGRAM into man/pgreserve.ini.5 (or PAGE), between its two marks.
set -eu
program=$1
page=${2:-$(dirname "$0")/../man/pgreserve.ini.5}
new=$(mktemp)
trap 'rm -f "$new"' EXIT
{
    sed '/^\.\\" The following/q' "$page"
    "$program" --options-mdoc
    sed -n '/^\.\\" options: end/,$p' "$page"
} >"$new"
cat "$new" >"$page"
