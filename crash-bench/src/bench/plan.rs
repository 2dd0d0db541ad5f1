//! The shortest way to an instruction of a recorded path.

use std::collections::HashMap;

/// A part of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leg {
    /// To where it arrives at this address next: one breakpoint.
    RunTo(u64),
    /// So many single steps.
    Step(u64),
}

/// What a single step and a breakpoint cost, relative to each other.
const STEP: u64 = 2;
const RUN: u64 = 5;

/// The cheapest routes to all instructions of a path.
///
/// From instruction `a`, a breakpoint leads to instruction `b` if the address of `b` does not occur in
/// between, nor at `a`. So with `p` the occurrence before `b`:
///
/// ```text
/// cost(b) = min(cost(b - 1) + STEP, min over a in p+1..b of cost(a) + RUN)
/// ```
#[derive(Debug)]
pub(crate) struct Routes {
    path: Vec<u64>,
    /// From which instruction the cheapest route comes to each.
    from: Vec<usize>,
}

impl Routes {
    /// Routes along a recorded path.
    pub(crate) fn new(path: Vec<u64>) -> Self {
        let mut costs = vec![0; path.len()];
        let mut from = vec![0; path.len()];
        let mut last = HashMap::new();
        // Those cheaper than all after them, in order: the first one from `p + 1` on is the cheapest.
        let mut cheapest: Vec<usize> = Vec::new();
        for (i, &address) in path.iter().enumerate() {
            if i > 0 {
                let earliest = last.get(&address).map_or(0, |p| p + 1);
                let step = (costs[i - 1] + STEP, i - 1);
                let run = cheapest
                    .get(cheapest.partition_point(|&a| a < earliest))
                    .map(|&a| (costs[a] + RUN, a));
                (costs[i], from[i]) = run.map_or(step, |run| run.min(step));
            }
            while cheapest.last().is_some_and(|&a| costs[a] >= costs[i]) {
                cheapest.pop();
            }
            cheapest.push(i);
            last.insert(address, i);
        }
        Self { path, from }
    }

    /// The cheapest route from the first instruction to instruction `n`.
    pub(crate) fn to(&self, n: usize) -> Vec<Leg> {
        let mut legs = Vec::new();
        let mut i = n;
        while i > 0 {
            // A step where a breakpoint would do, too, is cheaper.
            match (self.from[i] + 1 == i, legs.last_mut()) {
                (true, Some(Leg::Step(steps))) => *steps += 1,
                (true, _) => legs.push(Leg::Step(1)),
                (false, _) => legs.push(Leg::RunTo(self.path[i])),
            }
            i = self.from[i];
        }
        legs.reverse();
        legs
    }
}

/// One of each `every` numbers below `count`, and not always the same one, lest all have something in common.
/// The same each time.
pub(crate) fn spread(count: usize, every: usize) -> impl Iterator<Item = usize> {
    let every = every.max(1);
    (0..count).step_by(every).filter_map(move |start| {
        let chosen = start + mixed(start) % every;
        (chosen < count).then_some(chosen)
    })
}

/// The same numbers, so that any few of the first are from everywhere.
pub(crate) fn shuffled(mut numbers: Vec<usize>) -> Vec<usize> {
    numbers.sort_by_key(|n| mixed(*n));
    numbers
}

fn mixed(n: usize) -> usize {
    ((n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_few_is_chosen() {
        assert!(spread(100, 1).eq(0..100));
        let chosen: Vec<_> = spread(1000, 10).collect();
        assert!((0..100).eq(chosen.iter().map(|n| n / 10)));
        let mut last_digits: Vec<_> = chosen.iter().map(|n| n % 10).collect();
        last_digits.sort_unstable();
        last_digits.dedup();
        assert_eq!(last_digits.len(), 10);
    }

    /// Where a victim ends that takes a route along a path.
    fn walk(path: &[u64], route: &[Leg]) -> Option<usize> {
        route.iter().try_fold(0, |i, leg| match leg {
            Leg::Step(steps) => Some(i + *steps as usize),
            // At the start there is no arrival: a breakpoint where it stands stops it at once.
            Leg::RunTo(address) if path[i] == *address => None,
            Leg::RunTo(address) => {
                let next = path[i + 1..].iter().position(|found| found == address);
                next.map(|offset| i + 1 + offset)
            }
        })
    }

    fn cost(route: &[Leg]) -> u64 {
        let leg_cost = |leg: &Leg| match leg {
            Leg::RunTo(_) => RUN,
            Leg::Step(steps) => steps * STEP,
        };
        route.iter().map(leg_cost).sum()
    }

    fn check(path: &[u64], limit: u64) {
        let routes = Routes::new(path.to_vec());
        for n in 0..path.len() {
            let route = routes.to(n);
            assert_eq!(walk(path, &route), Some(n), "{route:?}");
            assert!(cost(&route) <= limit, "{n}: {route:?}");
        }
    }

    #[test]
    fn an_instruction_that_occurs_once_takes_one_breakpoint() {
        let path: Vec<u64> = (100..10_100).collect();
        check(&path, RUN);
    }

    #[test]
    fn the_rounds_of_a_loop_are_counted() {
        let path: Vec<u64> = (0..1000).map(|i| i % 10).collect();
        check(&path, 100 * (RUN + STEP));
    }

    #[test]
    fn rounds_of_an_inner_loop_are_not_multiplied_by_those_of_the_outer_one() {
        let round = |_| {
            std::iter::once(1)
                .chain((0..50).flat_map(|_| [2, 3, 4]))
                .chain([5])
        };
        let path: Vec<u64> = (0..50).flat_map(round).collect();
        check(&path, 110 * (RUN + STEP));
    }

    #[test]
    fn an_instruction_that_repeats_itself_is_stepped_through() {
        let path: Vec<u64> = [1, 2, 3]
            .into_iter()
            .chain([4; 30])
            .chain([5, 4, 4, 6])
            .collect();
        check(&path, 30 * STEP + RUN);
    }

    #[test]
    fn routes_are_right_on_any_path() {
        let mut random = 1u64;
        let mut next = || {
            random = random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            random >> 60
        };
        let path: Vec<u64> = (0..2000).map(|_| next()).collect();
        check(&path, u64::MAX);
    }
}
