//! Room in which answers are put together, one after the other: to get it anew for each would cost more than to fill it.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// More than a small answer takes is given back to the system.
const MOST: usize = 32 * 1024;

/// The room that the last answer of a worker has left.
#[derive(Debug, Default)]
pub(super) struct Spare(Mutex<Vec<u8>>);

/// The room while an answer has it.
pub(super) struct Lent<'a> {
    spare: &'a Spare,
    room: Vec<u8>,
}

impl Spare {
    /// It is empty. Who comes while another one has it gets room of his own.
    pub(super) fn lend(&self) -> Lent<'_> {
        Lent {
            spare: self,
            room: self.with(std::mem::take),
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut room = std::mem::take(&mut self.room);
        room.clear();
        self.spare.with(|left| {
            if room.capacity() > left.capacity() && room.capacity() <= MOST {
                *left = room;
            }
        });
    }
}

impl Deref for Lent<'_> {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.room
    }
}

impl DerefMut for Lent<'_> {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_used_again_unless_it_is_large() {
        let spare = Spare::default();
        let mut room = spare.lend();
        room.extend_from_slice(&[b'x'; 100]);
        let other = spare.lend();
        assert_eq!(other.capacity(), 0, "one has it at a time");
        drop(room);
        drop(other);
        let mut again = spare.lend();
        assert!(again.is_empty() && again.capacity() >= 100);
        again.reserve(MOST + 1);
        drop(again);
        assert_eq!(spare.lend().capacity(), 0);
    }
}
