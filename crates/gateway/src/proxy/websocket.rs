//! Where the frames of a WebSocket end (RFC 6455 section 5.2), so that a close can be put between two of them.
//!
//! Pure: bytes in, a place out. What is in the frames is nobody's business here.

/// To a client: close, 1001 "going away".
pub(super) const CLOSE_TO_CLIENT: [u8; 4] = [0x88, 2, 0x03, 0xe9];
/// The same to a server, which wants it masked; the mask is zero, as there is nothing to hide.
pub(super) const CLOSE_TO_SERVER: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe9];

/// How far one direction is in its frames.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The head of the frame, as far as it was seen.
    head: Vec<u8>,
    /// Bytes of the payload that are still to come.
    left: u64,
}

impl Frames {
    /// Whether the next byte begins a frame.
    pub(crate) fn is_between(&self) -> bool {
        self.head.is_empty() && self.left == 0
    }

    /// Takes bytes in.
    pub(crate) fn pass(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = self.step(rest);
        }
    }

    /// Takes bytes in up to the end of the frame that is under way; how many those are, `None` when it does not end in them.
    pub(crate) fn pass_to_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut rest = bytes;
        while !self.is_between() {
            if rest.is_empty() {
                return None;
            }
            rest = self.step(rest);
        }
        Some(bytes.len() - rest.len())
    }

    /// Takes in either one byte of a head or what there is of a payload; what is left of `bytes`.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if self.left > 0 {
            let count = usize::try_from(self.left)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.left -= count as u64;
            return bytes.get(count..).unwrap_or_default();
        }
        let Some((byte, rest)) = bytes.split_first() else {
            return bytes;
        };
        self.head.push(*byte);
        if let Some(length) = payload_length(&self.head) {
            self.head.clear();
            self.left = length;
        }
        rest
    }
}

/// The length of the payload, once the head is whole.
fn payload_length(head: &[u8]) -> Option<u64> {
    let second = *head.get(1)?;
    let extended = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let mask = if second & 0x80 == 0 { 0 } else { 4 };
    if head.len() < 2 + extended + mask {
        return None;
    }
    if extended == 0 {
        return Some(u64::from(second & 0x7f));
    }
    let bytes = head.get(2..2 + extended)?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize, is_masked: bool) -> Vec<u8> {
        let mask = if is_masked { 0x80 } else { 0 };
        let mut frame = vec![0x82];
        match length {
            0..126 => frame.push(mask | u8::try_from(length).unwrap()),
            126..65_536 => {
                frame.push(mask | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        if is_masked {
            frame.extend([1, 2, 3, 4]);
        }
        frame.resize(frame.len() + length, 0x88);
        frame
    }

    #[test]
    fn frames_of_every_length_end_where_they_end() {
        for is_masked in [false, true] {
            for length in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
                let frame = frame(length, is_masked);
                for chunk in [1, 3, frame.len()] {
                    let mut frames = Frames::default();
                    let mut chunks = frame.chunks(chunk).peekable();
                    while let Some(bytes) = chunks.next() {
                        frames.pass(bytes);
                        assert_eq!(
                            frames.is_between(),
                            chunks.peek().is_none(),
                            "{length} by {chunk}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_end_of_the_frame_under_way_is_found_among_others() {
        let (first, second) = (frame(10, false), frame(300, false));
        let both = [first.clone(), second].concat();
        let mut frames = Frames::default();
        assert_eq!(frames.pass_to_end(&both), Some(0));
        frames.pass(&both[..5]);
        assert_eq!(frames.pass_to_end(&both[5..8]), None);
        assert_eq!(frames.pass_to_end(&both[8..]), Some(first.len() - 8));
        assert!(frames.is_between());
    }

    #[test]
    fn what_is_put_between_frames_is_a_frame_itself() {
        for close in [&CLOSE_TO_CLIENT[..], &CLOSE_TO_SERVER[..]] {
            let mut frames = Frames::default();
            frames.pass(close);
            assert!(frames.is_between());
        }
    }
}
