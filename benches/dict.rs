//! What an operation of `AtomicDict` costs: by key, by handle, and beside a plain vector of atomics.
//!
//! These are times of one contender after the other, to be compared with those of another day. How
//! the contenders compare with each other is what `ratios` measures.

mod workload;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use workload::{LOCKS, OPERATIONS, Workload, cases};

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    for (n, case) in cases().into_iter().enumerate() {
        let workload = Workload::new(case);
        // A lock is one and the same whatever the key: once is enough.
        let locks = (n == 0).then_some(("lock", LOCKS));
        for (operation, contenders) in OPERATIONS.into_iter().chain(locks) {
            let mut group = criterion.benchmark_group(format!("{operation}, {case}"));
            group.throughput(Throughput::Elements(workload.visits() as u64));
            group.sampling_mode(SamplingMode::Flat);
            for (name, pass) in contenders {
                group.bench_function(*name, |bencher| bencher.iter(|| pass(black_box(&workload))));
            }
            group.finish();
        }
    }
    criterion.final_summary();
}
