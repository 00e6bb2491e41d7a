#!/bin/sh
# Builds hull-init, static and stripped, and prints its path. SWIFT names the compiler driver (default: swift).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
swift=${SWIFT:-swift}
resources=$("$swift" -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
triple=$("$swift" -print-target-info | sed -n 's/.*"unversionedTriple": "\(.*\)".*/\1/p')
tables="$resources/embedded/$triple/libswiftUnicodeDataTables.a"
if [ ! -f "$tables" ]; then
    echo "hull-init cannot be built: $tables is missing; use a Swift toolchain with Embedded Swift for $triple (6.3 or newer)." >&2
    exit 1
fi
"$swift" build --package-path "$here" --scratch-path "$here/.build" -c release --product hull-init --quiet \
    -Xlinker --gc-sections -Xlinker --icf=all \
    -Xswiftc -Xclang-linker -Xswiftc -static -Xswiftc -Xclang-linker -Xswiftc "$tables" -Xlinker -lm >&2
out="$here/.build/release/hull-init.stripped"
strip -s -R .comment -R .note.gnu.gold-version -o "$out.new" "$here/.build/release/hull-init"
mkdir -p "$here/.build/out"
mv "$out.new" "$here/.build/out/hull-init"
echo "$here/.build/out/hull-init"
