#!/usr/bin/env bash
# Format, lints, documentation, and the names of the synchronization edges.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --all-targets --features portable -- -D warnings
cargo clippy --all-targets --features serde -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --features serde --document-private-items --quiet
RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --features serde --quiet

# Every edge has a name: at least twice in the code (one on each side), and in the design.
edges=$(grep -rhoE 'SYNC\([a-z_]+\)' src | sort | uniq -c)
echo "$edges"
while read -r count edge; do
    name=${edge#SYNC(}
    name=${name%)}
    [ "$count" -ge 2 ] || { echo "edge $edge stands on one side only"; exit 1; }
    grep -qF "| \`$name\` |" docs/DESIGN.md || { echo "edge $edge is not in docs/DESIGN.md"; exit 1; }
done <<<"$edges"

# The table of the planted bugs is the one that their patches tell.
ci/mutate.sh --list | diff mutations/LIST.md - || { echo "ci/mutate.sh --list >mutations/LIST.md"; exit 1; }

# The oldest compiler that Cargo.toml promises, for the library alone: tests and tools may need a newer one.
oldest=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -1)
installed=$(rustup toolchain list 2>/dev/null | grep -oE "^${oldest//./\\.}(\.[0-9]+)?" | head -1) || true
if [ -n "$installed" ]; then
    CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/oldest" cargo "+$installed" check --features serde --quiet
else
    echo "SKIPPED: Rust $oldest is not installed (rustup toolchain install $oldest --profile minimal)"
fi

if cargo deny --version >/dev/null 2>&1; then
    cargo deny --offline check bans licenses sources
else
    echo "SKIPPED: cargo deny is not installed (cargo install cargo-deny)"
fi
