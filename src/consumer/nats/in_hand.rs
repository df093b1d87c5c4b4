use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Mutex,
};

use super::message::Place;
use crate::sync::lock;

/// The messages in hand of one source: when each was stored, by its number in the stream.
///
/// The server goes by the number alone, in both directions. It delivers a message again whose time was up,
/// as after it stood still itself, though it is being handled here; and it takes the acknowledgement
/// of an old message for that of a new one, where the stream was made anew and begins with 1 again.
#[derive(Debug, Default)]
pub(super) struct InHand {
    stored: Mutex<HashMap<u64, u64>>,
}

impl InHand {
    /// A message has come. False if it is in hand already.
    pub(super) fn take(&self, place: Place) -> bool {
        lock(&self.stored).insert(place.sequence, place.published) != Some(place.published)
    }

    /// What was released is in hand after all. False if it has come again, or another of its number.
    pub(super) fn take_back(&self, place: Place) -> bool {
        match lock(&self.stored).entry(place.sequence) {
            Entry::Vacant(entry) => {
                entry.insert(place.published);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Whether the server still means this message by its number, as far as was heard.
    pub(super) fn has(&self, place: Place) -> bool {
        lock(&self.stored).get(&place.sequence) == Some(&place.published)
    }

    /// It is in hand no more. Whether [it was](Self::has) until now.
    pub(super) fn release(&self, place: Place) -> bool {
        match lock(&self.stored).entry(place.sequence) {
            Entry::Occupied(entry) if *entry.get() == place.published => {
                entry.remove();
                true
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_that_of_the_message_that_came_last() {
        let place = |sequence, published| Place { delivered: 1, sequence, published };
        let in_hand = InHand::default();
        assert!(in_hand.take(place(1, 10)) && in_hand.take(place(2, 10)));
        assert!(!in_hand.take(Place { delivered: 2, ..place(1, 10) }), "the same again");
        assert!(in_hand.release(place(1, 10)) && !in_hand.release(place(1, 10)));
        assert!(in_hand.take_back(place(1, 10)) && in_hand.release(place(1, 10)));
        assert!(in_hand.take(place(1, 10)), "it was given up, and comes again");
        assert!(!in_hand.take_back(place(1, 10)));

        assert!(in_hand.take(place(1, 20)), "another one");
        assert!(in_hand.has(place(1, 20)) && !in_hand.has(place(1, 10)));
        assert!(!in_hand.release(place(1, 10)) && !in_hand.take_back(place(1, 10)));
        assert!(in_hand.has(place(1, 20)), "not what was released");
        assert!(!in_hand.take(place(1, 20)));
    }
}
