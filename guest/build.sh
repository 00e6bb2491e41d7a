#!/bin/sh
# Builds hull-init, or the guest's program that is named, static and stripped, and prints its path. SWIFT names the compiler driver (default: swift).
set -eu
program=${1:-hull-init}
here=$(cd "$(dirname "$0")" && pwd)
swift=${SWIFT:-swift}
resources=$("$swift" -print-target-info | sed -n 's/.*"runtimeResourcePath": "\(.*\)".*/\1/p')
triple=$("$swift" -print-target-info | sed -n 's/.*"unversionedTriple": "\(.*\)".*/\1/p')
tables="$resources/embedded/$triple/libswiftUnicodeDataTables.a"
if [ ! -f "$tables" ]; then
    echo "$program cannot be built: $tables is missing; use a Swift toolchain with Embedded Swift for $triple (6.3 or newer)." >&2
    exit 1
fi
"$swift" build --package-path "$here" --scratch-path "$here/.build" -c release --product "$program" --quiet \
    -Xlinker --gc-sections -Xlinker --icf=all \
    -Xswiftc -Xclang-linker -Xswiftc -static -Xswiftc -Xclang-linker -Xswiftc "$tables" -Xlinker -lm >&2
out="$here/.build/release/$program.stripped"
strip -s -R .comment -R .note.gnu.gold-version -o "$out.new" "$here/.build/release/$program"
mkdir -p "$here/.build/out"
mv "$out.new" "$here/.build/out/$program"
echo "$here/.build/out/$program"
