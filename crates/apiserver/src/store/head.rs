//! The head file: how far the state file must reach, kept beside it.
//!
//! SQLite takes a damaged frame of its write-ahead log for the end of that log: every commit from there on is gone, and
//! nothing says so. So each commit is also told here, by its number and the digest of the whole state after it, before
//! it is acknowledged. A state file that is behind its head has lost acknowledged writes and is refused.
//!
//! The head is written after the commit is on disk and is not synced itself, so it costs no wait. It can therefore never be
//! ahead of a whole state file. After a kill it is exact; after a power cut it may be some commits behind, and then it
//! proves so many commits less. There are two slots, written in turn, so that a torn or changed one leaves the other.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

const MAGIC: &[u8; 8] = b"SERNHEAD";
/// Magic, number, digest and checksum, each of eight bytes.
const SLOT: usize = 32;
const SLOTS: usize = 2;

/// A moment of the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The resource version of the last write.
    pub(super) rv: u64,
    /// The wrapping sum of the checksums of all objects.
    pub(super) digest: i64,
}

/// What was found beside a state file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    /// A file with no slot that is whole.
    Damaged,
    At(Head),
}

/// Reads the head file at `path`.
pub(super) fn read(path: &Path) -> io::Result<Found> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(e) => return Err(e),
    };
    let mut bytes = Vec::new();
    file.take((SLOT * SLOTS) as u64).read_to_end(&mut bytes)?;
    let heads = bytes.chunks(SLOT).filter_map(parse);
    Ok(heads
        .max_by_key(|head| head.rv)
        .map_or(Found::Damaged, Found::At))
}

/// The open head file of an open state file.
pub(super) struct HeadFile {
    file: File,
    next: usize,
}

impl HeadFile {
    /// Begins at `head`, in both slots and on disk, whatever was there before.
    pub(super) fn begin(path: &Path, head: Head) -> io::Result<Self> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        file.set_len((SLOT * SLOTS) as u64)?;
        // One slot after the other is on disk, so at every moment one of them is whole.
        for slot in 0..SLOTS {
            file.write_all_at(&bytes(head), (slot * SLOT) as u64)?;
            file.sync_all()?;
        }
        super::disk::sync_directory_of(path)?;
        Ok(Self { file, next: 0 })
    }

    /// Tells that the state on disk has come to `head`.
    pub(super) fn advance(&mut self, head: Head) -> io::Result<()> {
        self.file
            .write_all_at(&bytes(head), (self.next * SLOT) as u64)?;
        self.next = (self.next + 1) % SLOTS;
        Ok(())
    }
}

impl Drop for HeadFile {
    fn drop(&mut self) {
        if let Err(error) = self.file.sync_all() {
            tracing::warn!(%error, "the head file cannot be synced");
        }
    }
}

fn bytes(head: Head) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let fields = [
        *MAGIC,
        head.rv.to_le_bytes(),
        head.digest.to_le_bytes(),
        checksum(head).to_le_bytes(),
    ];
    for (place, field) in slot.chunks_mut(MAGIC.len()).zip(fields) {
        place.copy_from_slice(&field);
    }
    slot
}

fn parse(slot: &[u8]) -> Option<Head> {
    let mut fields = slot.chunks(MAGIC.len());
    let mut field = || -> Option<[u8; 8]> { fields.next()?.try_into().ok() };
    if field()? != *MAGIC {
        return None;
    }
    let head = Head {
        rv: u64::from_le_bytes(field()?),
        digest: i64::from_le_bytes(field()?),
    };
    (i64::from_le_bytes(field()?) == checksum(head)).then_some(head)
}

fn checksum(head: Head) -> i64 {
    super::disk::checksum("head", head.digest, &head.rv.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(rv: u64) -> Head {
        let digest = rv.cast_signed().wrapping_mul(-7);
        Head { rv, digest }
    }

    #[test]
    fn the_last_head_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head");
        assert_eq!(read(&path).unwrap(), Found::Nothing);
        let mut file = HeadFile::begin(&path, at(5)).unwrap();
        assert_eq!(read(&path).unwrap(), Found::At(at(5)));
        for rv in 6..9 {
            file.advance(at(rv)).unwrap();
            assert_eq!(read(&path).unwrap(), Found::At(at(rv)));
        }
    }

    #[test]
    fn one_changed_bit_leaves_a_head_at_most_one_commit_older_and_never_a_wrong_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head");
        let mut file = HeadFile::begin(&path, at(5)).unwrap();
        file.advance(at(6)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, bytes).unwrap();
            let found = read(&path).unwrap();
            assert!([Found::At(at(5)), Found::At(at(6))].contains(&found));
        }
        for len in 0..SLOT {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert_eq!(read(&path).unwrap(), Found::Damaged);
        }
    }
}
