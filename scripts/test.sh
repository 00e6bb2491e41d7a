#!/usr/bin/env bash
# Runs `swift test` with the arguments given, and says once more at the end what failed: of a long run's output people and
# CI services often keep the end alone. The whole output stays in .build/test.log.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
mkdir -p .build
"${SWIFT:-swift}" test --no-parallel "$@" 2>&1 | tee .build/test.log
code=${PIPESTATUS[0]}
if [ "$code" -ne 0 ]; then
    printf '\nWhat failed (the whole output is in .build/test.log):\n'
    # A failure's line, and those that say more of it. (Not [◇✔]: an awk that knows bytes alone takes ✘ for one of them.)
    awk '/recorded an issue|^✘ Test |error:/ { left = 6 } /^(◇|✔)/ { left = 0 } left > 0 { print substr($0, 1, 600); left-- }' .build/test.log | tail -60
fi
exit "$code"
