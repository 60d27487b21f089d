//! JSON with the fields that stand in it twice, which a plain reader passes over in silence.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serin_api::FieldPath;

/// More are not told.
const TOLD: usize = 20;

/// The value, in which the last of several fields of one name counts, and the paths of those fields.
pub(super) fn read(json: &[u8]) -> Result<(Value, Vec<String>), serde_json::Error> {
    let mut duplicates = Vec::new();
    let mut reader = serde_json::Deserializer::from_slice(json);
    let place = Place {
        path: FieldPath::root(),
        duplicates: &mut duplicates,
    };
    let value = place.deserialize(&mut reader)?;
    reader.end()?;
    Ok((value, duplicates))
}

/// Reads the value at a path.
struct Place<'a> {
    path: FieldPath,
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Place<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let place = Place {
                path: self.path.index(list.len()),
                duplicates: &mut *self.duplicates,
            };
            match items.next_element_seed(place)? {
                Some(item) => list.push(item),
                None => return Ok(list.into()),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let path = self.path.field(&name);
            if map.contains_key(&name) && self.duplicates.len() < TOLD {
                self.duplicates.push(path.to_string());
            }
            let value = entries.next_value_seed(Place {
                path,
                duplicates: &mut *self.duplicates,
            })?;
            map.insert(name, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_last_one_counts_and_each_is_told() {
        let text = br#"{"a": 1, "b": [{"c": 1.5, "c": null}, "x"], "a": -2, "d": true}"#;
        let (value, duplicates) = read(text).unwrap();
        assert_eq!(value, json!({"a": -2, "b": [{"c": null}, "x"], "d": true}));
        assert_eq!(duplicates, ["b[0].c", "a"]);
        assert!(read(b"{} x").is_err());
        assert!(read(&[b"[".repeat(500), b"]".repeat(500)].concat()).is_err());
    }
}
