//! JSON as it is written, a key that comes twice noticed.
//!
//! What enters: bytes. What leaves: a value, and the places of repeated keys: of two values for one key
//! most readers take the last and some the first, so whoever checks a document and whoever carries it
//! out could read different ones. Depth is limited by `serde_json` (128).

use super::schema::child;
use super::{DocumentFault, MAX_FAULTS};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// A body that is JSON.
pub(super) struct Body {
    /// The value; of a repeated key, the last.
    pub value: Value,
    /// One fault for each repeated key.
    pub repeated: Vec<DocumentFault>,
}

/// Reads exactly one value.
pub(super) fn body(bytes: &[u8]) -> Result<Body, serde_json::Error> {
    let mut reader = Reader { pointer: String::new(), repeated: Vec::new() };
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = reader.deserialize(&mut json)?;
    json.end()?;
    Ok(Body { value, repeated: reader.repeated })
}

struct Reader {
    /// Where the reader is.
    pointer: String,
    repeated: Vec<DocumentFault>,
}

impl Reader {
    fn note_repeated(&mut self) {
        let known = self.repeated.iter().any(|fault| fault.pointer == self.pointer);
        if !known && self.repeated.len() < MAX_FAULTS {
            self.repeated.push(DocumentFault::new(&self.pointer, "the field is there more than once"));
        }
    }
}

impl<'de> DeserializeSeed<'de> for &mut Reader {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    /// JSON has one kind of number: 5.0 is the integer 5, to a JSON Schema as well.
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if value.fract() == 0.0 && value.abs() < EXACT {
            return Ok((value as i64).into());
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let here = self.pointer.clone();
        loop {
            self.pointer = child(&here, &items.len().to_string());
            match seq.next_element_seed(&mut *self)? {
                Some(item) => items.push(item),
                None => break,
            }
        }
        self.pointer = here;
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut fields = Map::new();
        let here = self.pointer.clone();
        while let Some(key) = map.next_key::<String>()? {
            self.pointer = child(&here, &key);
            if fields.contains_key(&key) {
                self.note_repeated();
            }
            let value = map.next_value_seed(&mut *self)?;
            fields.insert(key, value);
        }
        self.pointer = here;
        Ok(Value::Object(fields))
    }
}
