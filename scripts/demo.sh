#!/usr/bin/env bash
# demo.sh: from a fresh clone to a container in a machine of its own, and what proves that it is one. Leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
make --no-print-directory build
image=oci-archive:$(scripts/make-image.sh demo)

home=$(mktemp -d)
export HULL_ROOT=$home/data HULL_EXEC_ROOT=$home/run
trap 'bin/hull gc >/dev/null || true; rm -rf "$home"' EXIT

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
run() { bin/hull run --rm --network none "$@"; }

say "The host"
printf 'kernel    %s\nmemory    %s\nprocesses %s\n' "$(uname -r)" \
    "$(awk '/^MemTotal/ { printf "%d MB", $2 / 1024 }' /proc/meminfo)" "$(find /proc -maxdepth 1 -name '[0-9]*' | wc -l)"

say "The container: hull run --rm --memory 256m $image …"
# shellcheck disable=SC2016 # the container's shell expands these
run --memory 256m "$image" bash -c '
    printf "kernel    %s\nmemory    %s\n" "$(uname -r)" "$(busybox awk "/^MemTotal/ { printf \"%d MB\", \$2 / 1024 }" /proc/meminfo)"
    printf "user      %s\ngreeting  %s\n" "$(id)" "$GREETING"
    echo "processes:"; busybox ps -o pid,user,args'

say "Its exit code is the command's"
code=0
run "$image" bash -c 'exit 42' || code=$?
echo "the command ended with $code"
((code == 42))
