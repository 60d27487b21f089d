//! Objects in the wire form of Protocol Buffers, in which Go clients send the built-in kinds: kubectl does so from 1.32 on.
//!
//! Responsible for: the envelope `k8s\0`, and making of a message the very JSON that the same client would have sent instead. What
//! messages there are is a table ([`schema`]); a field that is not in it is passed over, as every reader of the format does.
//!
//! Absent on purpose: writing. Clients that send this form read JSON too, and are answered in it.

mod schema;
mod wire;

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use schema::{Field, Shape, Type, message};
use wire::{Payload, fields};

pub(crate) const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages; no kind has so many.
const DEPTH: usize = 32;

/// Why bytes are no object, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// The fields that lead there, the innermost first.
    path: Vec<String>,
    why: String,
    /// Whether it is of a kind that is not written in this form.
    pub(crate) is_foreign: bool,
}

impl Malformed {
    fn new(why: impl Into<String>) -> Self {
        Self {
            path: Vec::new(),
            why: why.into(),
            is_foreign: false,
        }
    }

    fn within(mut self, field: impl Into<String>) -> Self {
        self.path.push(field.into());
        self
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, field) in self.path.iter().rev().enumerate() {
            let dot = if n == 0 || field.starts_with('[') {
                ""
            } else {
                "."
            };
            write!(f, "{dot}{field}")?;
        }
        let colon = if self.path.is_empty() { "" } else { ": " };
        write!(f, "{colon}{}", self.why)
    }
}

type Result<T> = std::result::Result<T, Malformed>;

/// Reads an object in its envelope.
///
/// # Errors
/// The bytes are no object of a kind in the table; the message names the field.
pub(crate) fn object(body: &[u8]) -> Result<Value> {
    let Some(envelope) = body.strip_prefix(MAGIC) else {
        return Err(Malformed::new("it does not begin with k8s\\0"));
    };
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(envelope) {
        match field? {
            (1, Payload::Bytes(type_meta)) => {
                for field in fields(type_meta) {
                    match field? {
                        (1, Payload::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Payload::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Payload::Bytes(bytes)) => raw = bytes,
            (3, Payload::Bytes(encoding)) if !encoding.is_empty() => {
                return Err(Malformed::new("a contentEncoding is not supported"));
            }
            _ => {}
        }
    }
    let fields = schema::kind(&api_version, &kind).ok_or_else(|| {
        let why = format!(
            "no message is known for kind {kind:?} of {api_version:?}: send it as application/json"
        );
        Malformed {
            is_foreign: true,
            ..Malformed::new(why)
        }
    })?;
    let mut object = Map::new();
    object.insert("apiVersion".into(), api_version.into());
    object.insert("kind".into(), kind.into());
    read_message(fields, raw, &mut object, DEPTH)?;
    Ok(Value::Object(object))
}

/// Reads the fields of a message into `into`.
fn read_message(
    known: &[Field],
    bytes: &[u8],
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Malformed::new(format!(
            "messages within messages are read to a depth of {DEPTH}"
        )));
    };
    for field in fields(bytes) {
        let (number, payload) = field?;
        if let Some(field) = known.iter().find(|known| known.number == number) {
            read_field(field, payload, into, depth)?;
        }
    }
    Ok(())
}

fn read_field(
    field: &Field,
    payload: Payload<'_>,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    let name = field.name;
    match (field.shape, field.type_, payload) {
        (Shape::Inlined, Type::Message(inner), Payload::Bytes(bytes)) => {
            read_message(message(inner), bytes, into, depth)
        }
        // Numbers of a list may stand one behind the other without their keys.
        (Shape::List, Type::Int32 | Type::Int64 | Type::Bool, Payload::Bytes(packed)) => {
            for number in wire::varints(packed) {
                let number = number.map_err(|e| e.within(name))?;
                push(field, Payload::Varint(number), into, depth)?;
            }
            Ok(())
        }
        (Shape::List, _, payload) => push(field, payload, into, depth),
        (Shape::Map, _, Payload::Bytes(entry)) => {
            let (key, value) = read_entry(field, entry, depth).map_err(|e| e.within(name))?;
            let map = into.entry(name).or_insert_with(|| json!({}));
            if let Value::Object(map) = map {
                map.insert(key, value);
            }
            Ok(())
        }
        // The parts of a message that is sent in several parts belong together.
        (Shape::One, Type::Message(inner), Payload::Bytes(bytes)) if !schema::is_list(inner) => {
            let place = into.entry(name).or_insert_with(|| json!({}));
            match place {
                Value::Object(place) => read_message(message(inner), bytes, place, depth),
                _ => Ok(()),
            }
            .map_err(|e| e.within(name))
        }
        (_, type_, payload) => {
            let value = read_value(type_, payload, depth).map_err(|e| e.within(name))?;
            if !value.is_null() && (field.kept || !is_empty(&value)) {
                into.insert(name.to_owned(), value);
            }
            Ok(())
        }
    }
}

fn push(
    field: &Field,
    payload: Payload<'_>,
    into: &mut Map<String, Value>,
    depth: usize,
) -> Result<()> {
    let list = into.entry(field.name).or_insert_with(|| json!([]));
    if let Value::Array(list) = list {
        let value = read_value(field.type_, payload, depth)
            .map_err(|e| e.within(format!("[{}]", list.len())).within(field.name))?;
        list.push(value);
    }
    Ok(())
}

fn read_entry(field: &Field, entry: &[u8], depth: usize) -> Result<(String, Value)> {
    let (mut key, mut value) = (String::new(), None);
    for part in fields(entry) {
        match part? {
            (1, Payload::Bytes(bytes)) => key = text(bytes)?,
            (2, payload) => {
                let read = read_value(field.type_, payload, depth);
                value = Some(read.map_err(|e| e.within(format!("[{key}]")))?);
            }
            _ => {}
        }
    }
    // The default of a value that was not sent; only text has one that is ever left out.
    Ok((key, value.unwrap_or_else(|| json!(""))))
}

/// A value; null for one that stands for nothing.
fn read_value(type_: Type, payload: Payload<'_>, depth: usize) -> Result<Value> {
    match (type_, payload) {
        (Type::Text, Payload::Bytes(bytes)) => text(bytes).map(Value::from),
        (Type::Bytes, Payload::Bytes(bytes)) => Ok(BASE64_STANDARD.encode(bytes).into()),
        (Type::Bool, Payload::Varint(n)) => Ok((n != 0).into()),
        (Type::Int32, Payload::Varint(n)) => int32(n).map(Value::from),
        (Type::Int64, Payload::Varint(n)) => Ok(n.cast_signed().into()),
        (Type::Double, Payload::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        (Type::Time { micros }, Payload::Bytes(bytes)) => time(bytes, micros),
        (Type::Json, Payload::Bytes(bytes)) => raw_json(bytes),
        (Type::IntOrString, Payload::Bytes(bytes)) => int_or_string(bytes),
        (Type::Quantity, Payload::Bytes(bytes)) => quantity(bytes),
        (Type::Message(inner), Payload::Bytes(bytes)) => {
            let mut object = Map::new();
            read_message(message(inner), bytes, &mut object, depth)?;
            if schema::is_list(inner) {
                return Ok(object.remove(schema::LIST).unwrap_or_else(|| json!([])));
            }
            Ok(Value::Object(object))
        }
        (_, payload) => Err(Malformed::new(format!(
            "the wire type {} does not fit",
            payload.wire_type()
        ))),
    }
}

/// Whether Go would leave a value out that may be left out when it is empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::String(text) => text.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(value) => !value,
        Value::Array(list) => list.is_empty(),
        Value::Null | Value::Object(_) => false,
    }
}

fn text(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(e) => Err(Malformed::new(format!(
            "the text is no UTF-8 at byte {}",
            e.valid_up_to()
        ))),
    }
}

fn int32(number: u64) -> Result<i32> {
    let number = number.cast_signed();
    i32::try_from(number).map_err(|_| Malformed::new(format!("{number} does not fit into 32 bits")))
}

/// `Time` and `MicroTime`: seconds and nanoseconds; neither is no time.
fn time(bytes: &[u8], micros: bool) -> Result<Value> {
    let (mut seconds, mut nanos) = (0, 0);
    for field in fields(bytes) {
        match field? {
            (1, Payload::Varint(n)) => seconds = n.cast_signed(),
            (2, Payload::Varint(n)) => nanos = int32(n)?,
            _ => {}
        }
    }
    if (seconds, nanos) == (0, 0) {
        return Ok(Value::Null);
    }
    let at = Timestamp::new(seconds, nanos)
        .map_err(|_| Malformed::new(format!("{seconds} s are beyond all times")))?;
    let text = if micros {
        format!("{at:.6}")
    } else {
        crate::meta::seconds(at)
    };
    Ok(text.into())
}

/// `RawExtension` and `FieldsV1`: JSON as it is.
fn raw_json(bytes: &[u8]) -> Result<Value> {
    for field in fields(bytes) {
        if let (1, Payload::Bytes(raw)) = field? {
            return serde_json::from_slice(raw)
                .map_err(|e| Malformed::new(format!("it is not JSON: {e}")));
        }
    }
    Ok(Value::Null)
}

fn int_or_string(bytes: &[u8]) -> Result<Value> {
    let (mut is_text, mut number, mut words) = (false, 0, String::new());
    for field in fields(bytes) {
        match field? {
            (1, Payload::Varint(n)) => is_text = n == 1,
            (2, Payload::Varint(n)) => number = int32(n)?,
            (3, Payload::Bytes(bytes)) => words = text(bytes)?,
            _ => {}
        }
    }
    Ok(if is_text { words.into() } else { number.into() })
}

fn quantity(bytes: &[u8]) -> Result<Value> {
    let mut amount = String::new();
    for field in fields(bytes) {
        if let (1, Payload::Bytes(bytes)) = field? {
            amount = text(bytes)?;
        }
    }
    Ok(if amount.is_empty() {
        "0".to_owned()
    } else {
        amount
    }
    .into())
}

#[cfg(test)]
mod tests;
