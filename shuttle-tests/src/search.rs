//! A search for an order of calls that explains what each of them was told.

use std::collections::HashSet;
use std::hash::Hash;

/// Something that was asked, and what came of it.
pub trait Call {
    /// What it was asked of.
    type State: Clone + Eq + Hash;

    /// When it was called, and when its answer came, or death.
    fn span(&self) -> (usize, usize);

    /// Whether it was killed, so that perhaps it never took effect.
    fn may_have_done_nothing(&self) -> bool;

    /// What becomes of `state`, if the answer fits that.
    fn applied(&self, state: &Self::State) -> Option<Self::State>;
}

/// Whether calls can be put in order, from the state `first` on: a search in depth, by what is done already
/// and the state that it led to (Wing and Gong; the memory is Lowe's).
pub fn has_order<C: Call>(calls: &[C], first: C::State) -> bool {
    assert!(calls.len() <= 128, "too long a history");
    let all = u128::MAX.checked_shr(128 - calls.len() as u32).unwrap_or(0);
    let mut seen = HashSet::new();
    let mut stack = vec![(0_u128, first)];
    while let Some((done, state)) = stack.pop() {
        if done == all {
            return true;
        }
        let left = || (0..calls.len()).filter(|n| done & 1 << n == 0);
        let first_end = left().map(|n| calls[n].span().1).min();
        // Next may be any that was called before the first of those left had ended.
        for n in left().filter(|&n| Some(calls[n].span().0) < first_end) {
            let mut push = |state| {
                let next = (done | 1 << n, state);
                if seen.insert(next.clone()) {
                    stack.push(next);
                }
            };
            if calls[n].may_have_done_nothing() {
                push(state.clone());
            }
            if let Some(state) = calls[n].applied(&state) {
                push(state);
            }
        }
    }
    false
}
