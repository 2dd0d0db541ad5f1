#!/usr/bin/env bash
# The proof: processes killed, frozen and in chaos, bytes damaged, system calls that fail. Ends with the number of findings, which must be 0.
#   ci/proof.sh                    the gate: less than 10 minutes on two cores
#   ci/proof.sh --full [PART...]   all of it, or some parts: a night
set -uo pipefail
cd "$(dirname "$0")/.."

all=(storms chaos fuzz calls crash pairs loom shuttle miri sanitizers planted)
findings=0 skipped=0
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
    skipped=$((skipped + $(grep -c '^SKIPPED' "$log")))
    echo "--- $* took $((SECONDS - start)) s"
}

bench() { "${CARGO_TARGET_DIR:-target}/release/forkmap-crash-bench" "$@"; }
processes() { cargo test --release --quiet --test processes -- --nocapture "$@"; }

# Deaths in sequence on one segment, which is then as large as before; one kind at a time.
storms() { FORKMAP_KILLS=${1:-100000} prove processes --test-threads 1 storm_; }
# All that four processes were told, killed and stopped as they were, is explained.
chaos() { FORKMAP_CHAOS_SECONDS=${1:-150} prove processes --test-threads 1 chaos_; }
# Segments of random bytes.
fuzz() { FORKMAP_FUZZ=${1:-1000000} prove cargo test --release --quiet --test fuzz -- --nocapture; }
# System calls that fail.
calls() { FORKMAP_FAULTS=${1:-all} prove processes failing_calls; }
# Killed and stopped before every instruction, and at two instants.
crash() { BUDGET=${1:-600} prove ci/crash.sh; }
pairs() { prove bench --stallkill --interleave --budget "${@:-120}"; }
# All schedules of the core; random programs; undefined behaviour.
loom() { prove ci/loom.sh; }
shuttle() { SHUTTLE_SECONDS=3600 prove ci/shuttle.sh; }
miri() { SEEDS=100 prove ci/miri.sh; }
sanitizers() { prove ci/sanitizers.sh; }
# Each bug that was planted is noticed.
planted() { prove ci/mutate.sh; }

full=0
if [ "${1:-}" = --full ]; then
    full=1
    shift
    [ $# -gt 0 ] || set -- "${all[@]}"
    for part; do
        [[ " ${all[*]} " == *" $part "* ]] || { echo "no part $part; there are ${all[*]}"; exit 2; }
    done
elif [ $# -gt 0 ]; then
    echo "usage: ci/proof.sh [--full [PART...]]"
    exit 2
fi

cargo test --release --test processes --test fuzz --no-run || exit
cargo build --release -p forkmap-crash-bench || exit
if [ "$full" = 1 ]; then
    for part; do "$part"; done
else
    storms 2000
    chaos 10
    fuzz 20000
    calls some
    crash 0.3
    # Two at once find more than others where both are about one key.
    pairs 6 fetch_add compare_exchange map-insert map-replace map-remove
fi

[ "$skipped" = 0 ] || echo "skipped: $skipped (their tool is missing, see above)"
echo "findings: $findings"
[ "$findings" = 0 ]
