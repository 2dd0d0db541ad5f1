#!/usr/bin/env bash
# ThreadSanitizer and AddressSanitizer over the tests of one process, with a standard library built for them.
#   ci/sanitizers.sh [thread|address...]
# About ten minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$(rustc -vV | sed -n 's/^host: //p')
library=$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library || true
if [ ! -f "$library/Cargo.lock" ]; then
    echo "SKIPPED: there is no source of the standard library (rustup component add --toolchain nightly rust-src)"
    exit 0
fi
if ! cargo +nightly fetch --locked --quiet --manifest-path "$library/Cargo.toml"; then
    echo "SKIPPED: the crates of the standard library cannot be had"
    exit 0
fi

[ $# -gt 0 ] || set -- thread address
sanitized() {
    # Optimized, since they are slow, but with all checks.
    CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS=true RUSTFLAGS="-Zsanitizer=$sanitizer" \
        CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/$sanitizer" \
        cargo +nightly test --release --quiet -Zbuild-std --target "$target" "$@"
}
# A destructor that panics leaves memory behind, as in std; and one test leaks a dictionary to have it for ever.
leaky=(a_panic_on_any_level_tears_nothing a_destructor_that_comes_back_waits_for_nobody)
for sanitizer; do
    echo "--- $sanitizer"
    sanitized --lib --test dict --test segment --test corrupt --test map --test stream -- "${leaky[@]/#/--skip=}"
    ASAN_OPTIONS=detect_leaks=0 sanitized --test stream -- "${leaky[@]}"
done
