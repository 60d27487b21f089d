//! Turns what an application writes into records of the log: `TIME STREAM TAG TEXT`, the format of the Kubernetes runtimes.

/// The longest text of one record; a longer line becomes several records, all but the last with the tag `P`.
pub(super) const MAX_TEXT_BYTES: usize = 16 << 10;

/// One output stream of an application.
#[derive(Debug)]
pub(super) struct Lines {
    stream: &'static str,
    partial: Vec<u8>,
}

impl Lines {
    /// `stream` is `stdout` or `stderr`.
    pub(super) fn new(stream: &'static str) -> Self {
        Self {
            stream,
            partial: Vec::new(),
        }
    }

    /// Appends the records that `chunk` completes to `out`; gives their number.
    pub(super) fn push(&mut self, time: &str, mut chunk: &[u8], out: &mut Vec<u8>) -> u64 {
        let mut records = 0;
        while !chunk.is_empty() {
            let room = MAX_TEXT_BYTES - self.partial.len();
            let window = chunk.get(..room + 1).unwrap_or(chunk);
            if let Some(end) = window.iter().position(|b| *b == b'\n') {
                let (line, rest) = chunk.split_at(end);
                self.partial.extend_from_slice(line);
                self.emit(time, b'F', out);
                chunk = rest.get(1..).unwrap_or_default();
                records += 1;
            } else {
                let (piece, rest) = chunk.split_at(room.min(chunk.len()));
                self.partial.extend_from_slice(piece);
                chunk = rest;
                // The record is cut only when more is there: a line of exactly the limit stays whole.
                if !chunk.is_empty() {
                    self.emit(time, b'P', out);
                    records += 1;
                }
            }
        }
        records
    }

    /// Appends what is left without a line end, if anything; gives the number of records.
    pub(super) fn finish(&mut self, time: &str, out: &mut Vec<u8>) -> u64 {
        if self.partial.is_empty() {
            return 0;
        }
        self.emit(time, b'F', out);
        1
    }

    fn emit(&mut self, time: &str, tag: u8, out: &mut Vec<u8>) {
        out.reserve(time.len() + self.stream.len() + self.partial.len() + 5);
        out.extend_from_slice(time.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.stream.as_bytes());
        out.push(b' ');
        out.push(tag);
        out.push(b' ');
        out.append(&mut self.partial);
        out.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(chunks: &[&str], want: Expect) {
        let mut lines = Lines::new("stdout");
        let mut out = Vec::new();
        let mut records = 0;
        for chunk in chunks {
            records += lines.push("T", chunk.as_bytes(), &mut out);
        }
        records += lines.finish("T", &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(records as usize, text.lines().count());
        let short: String = text
            .lines()
            .map(|l| {
                if l.len() > 60 {
                    format!("{}…({} bytes)\n", &l[..20], l.len())
                } else {
                    format!("{l}\n")
                }
            })
            .collect();
        want.assert_eq(&short);
    }

    #[test]
    fn lines_are_put_together_across_reads() {
        check(
            &["one\ntw", "o\n\nthree"],
            expect![[r#"
                T stdout F one
                T stdout F two
                T stdout F 
                T stdout F three
            "#]],
        );
    }

    #[test]
    fn a_long_line_is_split_and_marked() {
        let long = "x".repeat(MAX_TEXT_BYTES * 2 + 5);
        check(
            &[&long, "end\nnext\n"],
            expect![[r#"
                T stdout P xxxxxxxxx…(16395 bytes)
                T stdout P xxxxxxxxx…(16395 bytes)
                T stdout F xxxxxend
                T stdout F next
            "#]],
        );
    }

    #[test]
    fn a_line_of_exactly_the_limit_stays_whole() {
        let exact = "x".repeat(MAX_TEXT_BYTES);
        check(
            &[&exact, "\nnext\n"],
            expect![[r#"
                T stdout F xxxxxxxxx…(16395 bytes)
                T stdout F next
            "#]],
        );
    }
}
