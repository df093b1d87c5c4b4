//! Cells that live as long as the process, and the list of them.
//!
//! An `Arc` clone and drop on every call costs more than the counting itself and makes two threads
//! slower than one. So the state of a policy is allocated once, when it is built, and never freed,
//! like a metric or a tracing callsite; a handle is then a plain `&'static` that copies for free.
//! The list keeps every cell reachable, so that leak checkers do not report them.

use std::{
    any::Any,
    borrow::Cow,
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

/// How many cells are plenty for policies that are built once each. Past this, and at every
/// doubling, a warning says that somebody builds policies per call or per key.
const MANY: usize = 1024;

static CELLS: Mutex<Vec<&'static (dyn Any + Send + Sync)>> = Mutex::new(Vec::new());
static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);

/// Keeps `value` for the life of the process.
pub(crate) fn forever<T: Send + Sync + 'static>(value: T) -> &'static T {
    let cell: &'static T = Box::leak(Box::new(value));
    let count = {
        let mut cells = CELLS.lock().unwrap_or_else(PoisonError::into_inner);
        cells.push(cell);
        cells.len()
    };
    if count >= MANY && count.is_power_of_two() {
        crate::telemetry::many_policies(count);
    }
    cell
}

/// The name of a policy, kept for the life of the process and only once for each text.
pub(crate) fn name(text: Cow<'static, str>) -> &'static str {
    let text = match text {
        Cow::Borrowed(text) => return text,
        Cow::Owned(text) => text,
    };
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    let names = names.get_or_insert_with(HashSet::new);
    if let Some(known) = names.get(text.as_str()) {
        return known;
    }
    let kept: &'static str = Box::leak(text.into_boxed_str());
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owned_name_is_kept_once() {
        let first = name(Cow::Owned(String::from("orders")));
        let second = name(Cow::Owned(String::from("orders")));
        assert_eq!(first, "orders");
        assert!(std::ptr::eq(first, second));
    }

    #[test]
    fn cells_stay_reachable() {
        let cell = forever(AtomicMark(17));
        let cells = CELLS.lock().unwrap();
        let found = cells.iter().filter_map(|cell| cell.downcast_ref::<AtomicMark>());
        assert!(found.into_iter().any(|found| std::ptr::eq(found, cell)));
    }

    struct AtomicMark(#[allow(dead_code)] u64);
}
