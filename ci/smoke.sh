#!/usr/bin/env bash
# Every example and every bench, shortly: that they run and find their own results right.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --examples
cargo run --release --quiet --example wordcount
cargo run --release --quiet --example wordcount -- --kill
for example in index pool spawn; do
    cargo run --release --quiet --example "$example"
done
cargo bench --bench dict -- --test
cargo bench --bench ratios -- --test
