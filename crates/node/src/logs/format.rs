//! Reads records of a log: `TIME STREAM TAG TEXT`.

use jiff::Timestamp;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LogRecord<'a> {
    /// As written.
    pub(super) time: &'a [u8],
    /// Whether the line goes on in the next record of the same stream.
    pub(super) partial: bool,
    /// Whatever the application wrote; not always UTF-8.
    pub(super) text: &'a [u8],
}

impl<'a> LogRecord<'a> {
    /// Reads a record without its line end; `None` when it is none (a torn one after a crash).
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(4, |b| *b == b' ');
        let time = fields.next()?;
        let stream = fields.next()?;
        let tag = fields.next()?;
        let text = fields.next()?;
        if !matches!(stream, b"stdout" | b"stderr") {
            return None;
        }
        let partial = match tag {
            b"F" => false,
            b"P" => true,
            _ => return None,
        };
        Some(Self {
            time,
            partial,
            text,
        })
    }

    /// When it was written.
    pub(super) fn timestamp(&self) -> Option<Timestamp> {
        std::str::from_utf8(self.time).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_torn_ones_left_out() {
        let record = LogRecord::parse(b"2026-11-20T15:00:00.000000001Z stderr P a b \xff").unwrap();
        assert!(record.partial);
        assert_eq!(record.text, b"a b \xff");
        assert_eq!(
            record.timestamp().unwrap().to_string(),
            "2026-11-20T15:00:00.000000001Z"
        );
        assert_eq!(LogRecord::parse(b"T stdout F ").unwrap().text, b"");
        for torn in [
            &b""[..],
            b"T",
            b"T stdout",
            b"T stdout F",
            b"T other F x",
            b"T stdout X x",
        ] {
            assert_eq!(LogRecord::parse(torn), None, "{torn:?}");
        }
    }
}
