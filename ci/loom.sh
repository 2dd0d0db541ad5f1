#!/usr/bin/env bash
# The models of loom-tests/, each under every schedule that its bound allows.
#   ci/loom.sh [FILTER...]    FILTER: part of the name of a test
# About three minutes on two cores once built.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target/loom}"
export RUSTFLAGS="--cfg loom"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

if [ $# = 0 ]; then
    cargo clippy --profile loom --all-targets -p forkmap-loom-tests -- -D warnings
fi
cargo test --profile loom --tests -p forkmap-loom-tests -- --nocapture "$@" | tee "$log"

# A filter that fits nothing, or a build without the cfg, passes all of its no tests.
grep -oE 'model .*: [0-9]+ schedules' "$log" | awk '
    { models += 1; schedules += $(NF - 1) }
    END { print "loom: " models + 0 " models, " schedules + 0 " schedules"; exit models == 0 }'
