#!/bin/sh
# fuzz.sh [SECONDS] [host|guest]: fuzzes the agent protocol's parsers, coverage-guided, each for so long (600 s unless told).
# shellcheck disable=SC2086 # $flags is several words
set -eu
seconds=${1:-600}
targets=${2:-host guest}
root=$(cd "$(dirname "$0")/.." && pwd)
swiftc=${SWIFTC:-swiftc}
out="$root/fuzz/.build"
mkdir -p "$out/crashes"
flags="-O -sanitize=fuzzer -parse-as-library -swift-version 6 -enable-upcoming-feature InternalImportsByDefault"
# The modules first: instrumented, as object files, so that their coverage guides.
"$swiftc" $flags -wmo -module-name AgentProtocol -emit-module -emit-module-path "$out/AgentProtocol.swiftmodule" -c \
    -o "$out/AgentProtocol.o" "$root"/Sources/AgentProtocol/*.swift
"$swiftc" $flags -wmo -module-name FuzzedClient -emit-module -emit-module-path "$out/FuzzedClient.swiftmodule" -I "$out" -c \
    -o "$out/FuzzedClient.o" "$root/Sources/AgentClient/HostSession.swift"
"$swiftc" $flags -wmo -I "$out" -o "$out/host" "$root/fuzz/Sources/FuzzHost/FuzzHost.swift" "$out/AgentProtocol.o" "$out/FuzzedClient.o"
"$swiftc" $flags -wmo -I "$out" -o "$out/guest" "$root/fuzz/Sources/FuzzGuest/FuzzGuest.swift" "$out/AgentProtocol.o"
for target in $targets; do
    mkdir -p "$out/grown-$target"
    "$out/$target" -max_total_time="$seconds" -max_len=8192 -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
        -artifact_prefix="$out/crashes/$target-" "$out/grown-$target" "$root/fuzz/corpus/$target"
    echo "fuzz: $target ran $seconds s without a finding"
done
