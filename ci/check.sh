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

if cargo deny --version >/dev/null 2>&1; then
    cargo deny --offline check bans licenses sources
else
    echo "SKIPPED: cargo deny is not installed (cargo install cargo-deny)"
fi
