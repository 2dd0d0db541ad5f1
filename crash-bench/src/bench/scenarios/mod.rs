//! The scenarios. A new one is a type that implements `Scenario`, and a line here.

mod claim;
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
];
