#!/usr/bin/env bash
# The crash bench, with so many seconds for each operation: processes killed and stopped before its
# instructions, as many as the time allows. Then the debug build, of some operations: it has ten times the
# instructions.
#   ci/crash.sh [OPERATION...]     BUDGET=600 looks harder
# About 5 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

case "$(uname -s) $(uname -m)" in
    "Linux x86_64") ;;
    *) echo "SKIPPED: the crash bench is for Linux on x86-64"; exit 0 ;;
esac
budget=${BUDGET:-1}
cargo run --release --quiet -p forkmap-crash-bench -- --budget "$budget" "$@"
if [ $# = 0 ]; then
    # Of each kind one that is quick to prepare: with many dead before each point, or with a generation to begin, that
    # takes longer in a debug build than all points.
    set -- entry fetch_add compare_exchange unlink close register lock permit once \
        map-insert map-insert-chain map-insert-text map-replace map-compare_exchange map-remove map-get map-iter \
        stream-set stream-remove stream-transaction stream-get-record stream-watch-next stream-nested-set
fi
cargo run --quiet -p forkmap-crash-bench -- --budget "$budget" "$@"
