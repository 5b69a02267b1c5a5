#!/bin/sh
# build_deb.sh DIRECTORY - makes the Debian package of this tree in DIRECTORY and lets lintian read it.
#
# It is made from a copy, so that the tree stays as it is.  What is not under version control goes into it as well, but for
# what builds leave behind.  The date of debian/changelog is SOURCE_DATE_EPOCH: the same source gives the same bytes.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=$(cat "$root/VERSION")
copy=$out/pgreserve-$version

rm -rf "$copy"
mkdir "$copy"
(cd "$root" && tar --exclude=./build --exclude='./build-*' --exclude=./.git --exclude=__pycache__ -cf - .) |
    (cd "$copy" && tar -xf -)
(cd "$copy" && dpkg-buildpackage -b -us -uc)
rm -rf "$copy"
lintian --fail-on error,warning --info "$out/pgreserve_${version}_$(dpkg --print-architecture).changes"
ls -l "$out"/pgreserve_"$version"_*.deb
