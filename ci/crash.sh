#!/usr/bin/env bash
# The crash bench, with so many seconds for each operation: processes killed and stopped before its
# instructions, as many as the time allows. Half of that, one second at least, for the debug build, which has ten
# times the instructions and is but sampled.
#   ci/crash.sh [OPERATION...]     BUDGET=600 looks harder
# About 10 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

case "$(uname -s) $(uname -m)" in
    "Linux x86_64") ;;
    *) echo "SKIPPED: the crash bench is for Linux on x86-64"; exit 0 ;;
esac
budget=${BUDGET:-1}
cargo run --release --quiet -p forkmap-crash-bench -- --budget "$budget" "$@"
if [ $# = 0 ]; then
    # Not those that take longer to prepare than to try in a debug build: with many dead before each point, or with
    # a generation of a StreamDict to begin.
    mapfile -t scenarios < <(cargo run --quiet -p forkmap-crash-bench -- --list |
        grep -vE -e '-over-|-slots-|-full-after-|-recover-' |
        awk '!/^stream-/ || /^stream-(set|remove|transaction|get|get-record|watch-next)$/')
    set -- "${scenarios[@]}"
fi
cargo run --quiet -p forkmap-crash-bench -- --budget "$(((budget + 1) / 2))" "$@"
