#!/usr/bin/env bash
# check-swift.sh: ends with one clear sentence when Swift is missing or older than Hull needs.
set -euo pipefail
readonly need=6.2

if ! command -v swift >/dev/null; then
    echo "Swift is missing: install Swift $need or newer (swift.org/install) and put it in PATH." >&2
    exit 1
fi
have=$(swift --version 2>/dev/null | sed -n 's/.*Swift version \([0-9.]*\).*/\1/p' | head -1)
if [[ -z $have || $(printf '%s\n' "$need" "$have" | sort -V | head -1) != "$need" ]]; then
    echo "Swift ${have:-of an unknown version} is too old: install Swift $need or newer (swift.org/install)." >&2
    exit 1
fi
