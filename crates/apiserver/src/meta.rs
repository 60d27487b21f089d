//! The metadata that the server fills in: uids, times, generated names.

use crate::tree::Tree;
use jiff::{Timestamp, Unit};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The longest name that a generated one is cut to, before its random end.
const GENERATED_BASE: usize = 58;
/// No vowels and no letters that look like digits, so that no words appear by chance.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
const RANDOM: usize = 5;

/// A new uid.
pub(crate) fn new_uid() -> String {
    Uuid::new_v4().to_string()
}

/// A time as metadata carries it, to the second.
pub(crate) fn seconds(at: Timestamp) -> String {
    at.round(Unit::Second)
        .map_or(at, |rounded| {
            if rounded > at {
                rounded - jiff::SignedDuration::from_secs(1)
            } else {
                rounded
            }
        })
        .to_string()
}

/// A name that starts with `base` and ends at random.
pub(crate) fn generate_name(base: &str) -> String {
    let end = base
        .char_indices()
        .nth(GENERATED_BASE)
        .map_or(base.len(), |(at, _)| at);
    let mut name: String = base.chars().take(end).collect();
    let random = Uuid::new_v4();
    let letters = random.as_bytes().iter().take(RANDOM);
    name.extend(letters.filter_map(|b| {
        ALPHABET
            .get(usize::from(*b) % ALPHABET.len())
            .map(|c| char::from(*c))
    }));
    name
}

/// The metadata of an object, made empty when it is missing.
pub(crate) fn of_mut(object: &mut Value) -> &mut Map<String, Value> {
    object.map("metadata")
}

/// A text field of the metadata; empty when absent.
pub(crate) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.at("/metadata")[name].as_str().unwrap_or_default()
}

/// The finalizers of an object, in order.
pub(crate) fn finalizers(object: &Value) -> Vec<&str> {
    let list = object.at("/metadata/finalizers").as_array();
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// Whether an object waits for its end.
pub(crate) fn is_deleting(object: &Value) -> bool {
    object.at("/metadata/deletionTimestamp").is_string()
}

/// Takes a name out of the finalizers; `true` when it was there.
pub(crate) fn drop_finalizer(object: &mut Value, name: &str) -> bool {
    let meta = of_mut(object);
    let Some(Value::Array(list)) = meta.get_mut("finalizers") else {
        return false;
    };
    let before = list.len();
    list.retain(|f| f.as_str() != Some(name));
    let dropped = list.len() < before;
    if list.is_empty() {
        meta.remove("finalizers");
    }
    dropped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_keep_their_base_and_fit() {
        let name = generate_name("web-");
        assert_eq!((name.len(), name.starts_with("web-")), (9, true));
        assert_eq!(generate_name(&"x".repeat(80)).len(), 63);
    }

    #[test]
    fn times_are_cut_to_seconds() {
        let at: Timestamp = "2026-01-02T03:04:05.999Z".parse().unwrap();
        assert_eq!(seconds(at), "2026-01-02T03:04:05Z");
    }
}
