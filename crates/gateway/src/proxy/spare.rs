//! Room in which answers are put together, one after the other: to get it anew for each would cost more than to fill it.

use std::sync::{Mutex, PoisonError};

/// More than a small answer takes is given back to the system.
const MOST: usize = 32 * 1024;

/// The room that the last answer of a worker has left.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<u8>>);

impl Spare {
    /// It is empty. Who comes while another one has it gets room of his own.
    pub(super) fn take(&self) -> Vec<u8> {
        self.with(std::mem::take)
    }

    pub(super) fn put(&self, mut room: Vec<u8>) {
        room.clear();
        if room.capacity() <= MOST {
            self.with(|left| *left = room);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again_unless_it_is_large() {
        let spare = Spare::default();
        let mut room = spare.take();
        room.extend_from_slice(&[b'x'; 100]);
        let other = spare.take();
        assert_eq!(other.capacity(), 0, "one has it at a time");
        spare.put(room);
        let again = spare.take();
        assert!(again.is_empty() && again.capacity() >= 100);
        spare.put(Vec::with_capacity(MOST + 1));
        assert_eq!(spare.take().capacity(), 0);
    }
}
