#!/usr/bin/env bash
# The proof: processes killed, frozen and in chaos, bytes damaged, system calls that fail. Ends with the number of findings, which must be 0.
#   ci/proof.sh            the gate: about 10 minutes on two cores
#   ci/proof.sh --full     every instruction, 100,000 deaths, long chaos, all models, all planted bugs: a night
set -uo pipefail
cd "$(dirname "$0")/.."

findings=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# A step that fails has found something: as much as it says, once at least.
prove() {
    local start=$SECONDS told
    echo "--- $*"
    if ! "$@" 2>&1 | tee "$log"; then
        told=$(sed -nE 's/^crash bench: .* ([0-9]+) findings$/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
        findings=$((findings + (told > 0 ? told : 1)))
    fi
    echo "--- $* took $((SECONDS - start)) s"
}

case "${1:-}" in
    "") kills=2000 chaos=10 inputs=20000 faults=some ;;
    --full) kills=100000 chaos=600 inputs=1000000 faults=all ;;
    *) echo "usage: ci/proof.sh [--full]"; exit 2 ;;
esac

cargo test --release --test processes --test fuzz --no-run || exit
cargo build --release -p forkmap-crash-bench || exit
storm() { FORKMAP_KILLS=$kills cargo test --release --quiet --test processes -- --test-threads 1 --nocapture "$1"; }
prove storm map_is_as_large_after_many_kills_as_before
prove storm stream_what_one_dead_writer_leaves_the_next_one_removes
FORKMAP_CHAOS_SECONDS=$chaos prove cargo test --release --quiet --test processes -- --nocapture chaos_
FORKMAP_FUZZ=$inputs prove cargo test --release --quiet --test fuzz -- --nocapture
FORKMAP_FAULTS=$faults prove cargo test --release --quiet --test processes -- failing_calls
bench=${CARGO_TARGET_DIR:-target}/release/forkmap-crash-bench
if [ "${1:-}" = --full ]; then
    prove storm stream_maps_are_moved_by_whoever_is_killed
    BUDGET=600 prove ci/crash.sh
    prove "$bench" --stallkill --interleave --budget 120
    prove ci/loom.sh
    SHUTTLE_SECONDS=3600 prove ci/shuttle.sh
    SEEDS=100 prove ci/miri.sh
    prove ci/mutate.sh
else
    prove ci/crash.sh
    # These find more than others where two are at it: the others take longer.
    prove "$bench" --stallkill --interleave --budget 1 fetch_add compare_exchange map-insert map-replace map-remove
fi

echo "findings: $findings"
[ "$findings" = 0 ]
