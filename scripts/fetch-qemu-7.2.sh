#!/usr/bin/env bash
# fetch-qemu-7.2.sh: unpacks Debian 12's own QEMU and its share server below .build/qemu-7.2, for the test of the oldest QEMU that Hull runs
# on. Installs nothing; quick when it is there, and no error where the archive has none.
set -euo pipefail
folder=$(cd "$(dirname "$0")/.." && pwd)/.build/qemu-7.2
[[ ! -x $folder/usr/bin/qemu-system-x86_64 ]] || exit 0
version=$(apt-cache madison qemu-system-x86 | awk '$3 ~ /^1:7\.2/ { print $3; exit }')
if [[ -z $version ]]; then
    echo "fetch-qemu-7.2.sh: the package sources have no QEMU 7.2: its test is left out" >&2
    exit 0
fi
rm -rf "$folder.new" "$folder"
mkdir -p "$folder.new"
cd "$folder.new"
# A rebuild of the programs (+b1) has the data of the build before.
apt-get -qq -o APT::Sandbox::User=root download "qemu-system-x86=$version" "qemu-system-common=$version" "qemu-system-data=${version%+b*}"
for package in *.deb; do dpkg-deb -x "$package" .; done
rm ./*.deb
mv "$folder.new" "$folder"
