//! The fields of a message as they stand on the wire.

use super::{Malformed, Result};

/// What stands behind the key of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

impl Payload<'_> {
    pub(super) fn wire_type(self) -> u8 {
        match self {
            Self::Varint(_) => 0,
            Self::Fixed64(_) => 1,
            Self::Bytes(_) => 2,
            Self::Fixed32(_) => 5,
        }
    }
}

/// The fields of a message in their order, each with its number; the first error is the last item.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<(u32, Payload<'_>)>> {
    items(message, field)
}

/// Varints that stand one behind the other.
pub(super) fn varints(bytes: &[u8]) -> impl Iterator<Item = Result<u64>> + '_ {
    items(bytes, varint)
}

fn items<'a, T>(
    mut rest: &'a [u8],
    read: impl Fn(&mut &'a [u8]) -> Result<T>,
) -> impl Iterator<Item = Result<T>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let item = read(&mut rest);
        if item.is_err() {
            rest = &[];
        }
        Some(item)
    })
}

fn field<'a>(rest: &mut &'a [u8]) -> Result<(u32, Payload<'a>)> {
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).ok().filter(|number| *number > 0);
    let number = number.ok_or_else(|| Malformed::new("a field has no number"))?;
    let payload = match key & 7 {
        0 => Payload::Varint(varint(rest)?),
        1 => Payload::Fixed64(u64::from_le_bytes(array(rest)?)),
        2 => {
            let len = usize::try_from(varint(rest)?).unwrap_or(usize::MAX);
            Payload::Bytes(take(rest, len)?)
        }
        5 => Payload::Fixed32(u32::from_le_bytes(array(rest)?)),
        other => {
            return Err(Malformed::new(format!(
                "field {number} has the unknown wire type {other}"
            )));
        }
    };
    Ok((number, payload))
}

fn varint(rest: &mut &[u8]) -> Result<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let [byte] = array(rest)?;
        let bits = u64::from(byte & 0x7f);
        if shift == 63 && bits > 1 {
            break;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed::new("a number is longer than 64 bits"))
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N]> {
    let bytes = take(rest, N)?;
    bytes.try_into().map_err(|_| cut())
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len).ok_or_else(cut)?;
    *rest = left;
    Ok(taken)
}

fn cut() -> Malformed {
    Malformed::new("the message is cut off")
}
