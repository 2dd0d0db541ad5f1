#!/usr/bin/env bash
# Every example and every bench, shortly: that they run and find their own results right.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --examples
cargo run --release --quiet --example wordcount
cargo run --release --quiet --example wordcount -- --kill
cargo run --release --quiet --example work_queue -- --kill
cargo run --release --quiet --example cache
cargo run --release --quiet --example cache -- --kill
cargo run --release --quiet --example producer_consumer -- --kill
for example in distributed_sum index live_config pool producer_consumer rate_limit spawn work_queue; do
    cargo run --release --quiet --example "$example"
done
cargo bench --bench dict -- --test
cargo bench --bench maps -- --test
cargo bench --bench ratios -- --test
cargo bench --bench stream -- --test
