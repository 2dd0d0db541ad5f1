//! The scenarios. A new one is a type that implements `Scenario`, and a line here.

mod claim;
mod maps;
mod maps_change;
mod maps_dead;
mod maps_duel;
mod maps_full;
mod maps_many;
mod maps_one;
mod names;
mod primitives;
mod removal;
mod values;

use super::scenario::Make;

/// All scenarios, by name.
pub(crate) const ALL: &[(&str, Make)] = &[
    ("create", names::create),
    ("open_or_create", names::open_or_create),
    ("open", names::open),
    ("entry", claim::entry),
    ("fetch_add", values::fetch_add),
    ("fetch_add-new-key", values::fetch_add_new_key),
    ("fetch_add-by-entry", values::fetch_add_by_entry),
    ("store", values::store),
    ("swap", values::swap),
    ("compare_exchange", values::compare_exchange),
    ("fetch_max", values::fetch_max),
    ("fetch_add_bounded", values::fetch_add_bounded),
    ("unlink", removal::unlink),
    ("create_or_replace", removal::create_or_replace),
    ("unlink_on_drop", removal::unlink_on_drop),
    ("close", removal::close),
    ("register", primitives::register),
    ("lock", primitives::lock),
    ("lock-of-the-dead", primitives::lock_of_the_dead),
    ("unlock", primitives::unlock),
    ("unlock-contended", primitives::unlock_contended),
    ("permit", primitives::permit),
    ("once", primitives::once),
    ("ring", primitives::ring),
    ("map-insert", maps_change::insert),
    ("map-insert-apart", maps_change::insert_apart),
    ("map-insert-empty", maps_change::insert_empty),
    ("map-insert-chain", maps_change::insert_chain),
    ("map-insert-chain-apart", maps_change::insert_chain_apart),
    ("map-insert-first", maps_change::insert_first),
    ("map-insert-first-apart", maps_change::insert_first_apart),
    ("map-insert-text", maps_change::insert_text),
    ("map-replace", maps_change::replace),
    ("map-replace-apart", maps_change::replace_apart),
    ("map-replace-chain", maps_change::replace_chain),
    ("map-replace-text", maps_change::replace_text),
    ("map-replace-text-apart", maps_change::replace_text_apart),
    ("map-set", maps_change::set),
    ("map-try_insert", maps_change::try_insert),
    ("map-try_insert-lost", maps_change::try_insert_lost),
    ("map-get_or_insert_with", maps_change::get_or_insert_with),
    ("map-compare_exchange", maps_change::compare_exchange),
    (
        "map-compare_exchange-lost",
        maps_change::compare_exchange_lost,
    ),
    ("map-update", maps_change::update),
    ("map-fetch_update", maps_change::fetch_update),
    ("map-fetch_add", maps_change::fetch_add),
    ("map-fetch_add-new", maps_change::fetch_add_new),
    ("map-remove", maps_change::remove),
    ("map-remove-apart", maps_change::remove_apart),
    ("map-remove-farthest", maps_change::remove_farthest),
    (
        "map-remove-farthest-apart",
        maps_change::remove_farthest_apart,
    ),
    ("map-remove-middle", maps_change::remove_middle),
    ("map-remove-text", maps_change::remove_text),
    ("map-remove_if", maps_change::remove_if),
    ("map-entry-replace", maps_change::entry_replace),
    ("map-entry-insert", maps_change::entry_insert),
    ("map-entry-remove", maps_change::entry_remove),
    ("map-get", maps_change::get),
    ("map-get-chain", maps_change::get_chain),
    ("map-get-absent", maps_change::get_absent),
    ("map-get-text", maps_change::get_text),
    ("map-insert-last", maps_full::insert_last),
    ("map-insert-full", maps_full::insert_full),
    ("map-clear", maps_many::clear),
    ("map-retain", maps_many::retain),
    ("map-iter", maps_many::iter),
    ("map-iter-text", maps_many::iter_text),
    ("map-len", maps_many::len),
    ("map-ring", maps_many::ring),
    ("map-wait", maps_many::wait),
    ("map-recover-inserts", maps_dead::recover_inserts),
    ("map-recover-replaces", maps_dead::recover_replaces),
    ("map-recover-removals", maps_dead::recover_removals),
    ("map-slots-of-inserts", maps_dead::slots_of_inserts),
    ("map-slots-of-replaces", maps_dead::slots_of_replaces),
    ("map-slots-of-removals", maps_dead::slots_of_removals),
    ("map-full-after-inserts", maps_dead::full_after_inserts),
    ("map-insert-over-inserts", maps_duel::insert_over_inserts),
    ("map-insert-over-replaces", maps_duel::insert_over_replaces),
    ("map-insert-over-removals", maps_duel::insert_over_removals),
    ("map-remove-over-inserts", maps_duel::remove_over_inserts),
    ("map-remove-over-replaces", maps_duel::remove_over_replaces),
    ("map-remove-over-removals", maps_duel::remove_over_removals),
];
