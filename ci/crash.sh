#!/usr/bin/env bash
# The crash bench, with so many seconds for each operation and way of dying: processes killed and
# stopped before the instructions of every operation, as many as the time allows.
#   ci/crash.sh [OPERATION...]     BUDGET=600 looks harder
# About 4 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

case "$(uname -s) $(uname -m)" in
    "Linux x86_64") ;;
    *) echo "SKIPPED: the crash bench is for Linux on x86-64"; exit 0 ;;
esac
cargo run --release --quiet -p forkmap-crash-bench -- --budget "${BUDGET:-3}" "$@"
cargo run --quiet -p forkmap-crash-bench -- --budget "${BUDGET:-3}" "$@"
