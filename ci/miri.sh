#!/usr/bin/env bash
# Miri over the unit tests of the algorithms: undefined behaviour, and the weak memory that loom
# does not model. The tests that race run under many seeds, since a seed is one schedule.
#   ci/miri.sh [FILTER...]    FILTER: part of the name of a test; many seeds for those alone
# About 3 minutes on two cores once built. SEEDS=100 looks harder.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/miri}"
cargo +nightly miri --version >/dev/null 2>&1 ||
    rustup component add --toolchain nightly miri rust-src >/dev/null 2>&1 || {
    echo "SKIPPED: miri is not installed (rustup component add --toolchain nightly miri rust-src)"
    exit 0
}

log=$(mktemp)
trap 'rm -f "$log"' EXIT

miri() {
    MIRIFLAGS="-Zmiri-strict-provenance $1" \
        cargo +nightly miri test --lib -- --quiet "${@:2}" | tee "$log"
    grep -qE '^running [1-9]' "$log" || { echo "no test of the name ${*:2}"; exit 1; }
}

many="-Zmiri-many-seeds=0..${SEEDS:-16}"
if [ $# -gt 0 ]; then
    miri "$many" "$@"
else
    # Plain functions, and one thread against a model: one seed has seen it all.
    plain=(raw::hash raw::header raw::map::tags raw::map::tests::a_map stream::record)
    miri "" "${plain[@]}"
    miri "$many" raw:: per_process "${plain[@]/#/--skip=}"
fi
