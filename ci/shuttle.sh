#!/usr/bin/env bash
# The random programs of shuttle-tests/, in random orders and with random deaths.
#   ci/shuttle.sh [FILTER...]    FILTER: part of the name of a test
#   SHUTTLE_SECONDS=90           how long those over the map; those over the logs half as long
#   SHUTTLE_SEED=N               only the program of that number, which a failure prints
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/shuttle}"
export RUSTFLAGS="--cfg loom --cfg shuttle"
export SHUTTLE_SECONDS="${SHUTTLE_SECONDS:-90}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

if [ $# = 0 ]; then
    cargo clippy --profile loom --all-targets -p forkmap-shuttle-tests -- -D warnings
fi
cargo test --profile loom --tests -p forkmap-shuttle-tests -- --nocapture "$@" | tee "$log"

# A filter that fits nothing, or a build without the cfgs, passes all of its no tests.
sed -nE 's/^shuttle .*: .*, ([0-9]+) executions, ([0-9]+) of .*, ([0-9]+) operations$/\1 \2 \3/p' "$log" | awk '
    { executions += $1; deaths += $2; operations += $3 }
    END {
        print "shuttle: " executions + 0 " executions, " deaths + 0 " of them with deaths, " \
            operations + 0 " operations checked"
        exit executions == 0
    }'
