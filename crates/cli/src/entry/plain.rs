//! MessagePack without its type, as text and as JSON.

use rmpv::Value;
use serde_json::{Map, Number, Value as Json};

use crate::printer::{needs_escape, without_control_codes};
use larder_core::hex;

/// The deepest value that is read: keys and values of Larder are at most 256 levels deep, and a level of
/// theirs is up to two of MessagePack.
const DEPTH_MAX: usize = 600;

/// Reads one value that takes all of `bytes`.
pub(super) fn read(mut bytes: &[u8]) -> Option<Value> {
    let value = rmpv::decode::read_value_with_max_depth(&mut bytes, DEPTH_MAX).ok()?;
    bytes.is_empty().then_some(value)
}

/// Whether `bytes` are the shortest encoding of the value, which is the one of keys.
pub(super) fn is_encoded_as(value: &Value, bytes: &[u8]) -> bool {
    let mut encoded = Vec::with_capacity(bytes.len());
    rmpv::encode::write_value(&mut encoded, value).is_ok() && encoded == bytes
}

/// The value in the notation of JSON, in one line; bytes are `h'00ff'`. Unequal values have unequal texts,
/// apart from numbers: an integer is written the same whatever its width.
pub(super) fn text(value: &Value) -> String {
    let mut text = String::new();
    write(&mut text, value);
    text
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Nil => text.push_str("null"),
        Value::Boolean(yes) => text.push_str(if *yes { "true" } else { "false" }),
        Value::Integer(number) => text.push_str(&number.to_string()),
        Value::F32(number) => text.push_str(&float(f64::from(*number))),
        Value::F64(number) => text.push_str(&float(*number)),
        Value::String(string) => match string.as_str() {
            Some(string) => text.push_str(&quoted(string)),
            None => write_bytes(text, string.as_bytes()),
        },
        Value::Binary(bytes) => write_bytes(text, bytes),
        Value::Array(items) => {
            let write_item = |text: &mut String, item: &Value| write(text, item);
            write_list(text, ('[', ']'), items, write_item);
        }
        Value::Map(pairs) => write_list(text, ('{', '}'), pairs, |text, (key, value)| {
            write(text, key);
            text.push(':');
            write(text, value);
        }),
        Value::Ext(kind, bytes) => {
            text.push_str(&format!("ext({kind})"));
            write_bytes(text, bytes);
        }
    }
}

fn write_list<T>(
    text: &mut String,
    (open, close): (char, char),
    items: &[T],
    each: impl Fn(&mut String, &T),
) {
    text.push(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        each(text, item);
    }
    text.push(close);
}

fn write_bytes(text: &mut String, bytes: &[u8]) {
    text.push_str(&format!("h'{}'", hex::encode(bytes)));
}

/// A float as text that is no integer.
fn float(number: f64) -> String {
    format!("{number:?}")
}

/// A string of JSON, without control codes.
pub(super) fn quoted(string: &str) -> String {
    let quoted = Json::from(string).to_string();
    if quoted.chars().any(needs_escape) { without_control_codes(&quoted) } else { quoted }
}

/// The value as JSON. Bytes become `{"bytes":"00ff"}`, and keys of maps that are no strings their text.
pub(super) fn json(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Boolean(yes) => Json::from(*yes),
        Value::Integer(number) => {
            number.as_i64().map(Json::from).or_else(|| number.as_u64().map(Json::from)).unwrap_or(Json::Null)
        }
        Value::F32(number) => Number::from_f64(f64::from(*number)).map_or(Json::Null, Json::Number),
        Value::F64(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::String(string) => string.as_str().map_or_else(|| bytes(string.as_bytes()), Json::from),
        Value::Binary(content) | Value::Ext(_, content) => bytes(content),
        Value::Array(items) => items.iter().map(json).collect(),
        Value::Map(pairs) => {
            let name = |key: &Value| key.as_str().map_or_else(|| text(key), str::to_owned);
            Json::Object(pairs.iter().map(|(key, value)| (name(key), json(value))).collect::<Map<_, _>>())
        }
    }
}

fn bytes(content: &[u8]) -> Json {
    serde_json::json!({ "bytes": hex::encode(content) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_pack_is_written_as_json_is() {
        let value = Value::Array(vec![
            Value::from("a\u{1b}"),
            Value::from(-7),
            Value::F64(2.0),
            Value::Map(vec![(Value::from(1), Value::Binary(vec![0, 255]))]),
            Value::Nil,
        ]);
        let mut bytes = Vec::new();
        rmpv::encode::write_value(&mut bytes, &value).unwrap();
        let read_back = read(&bytes).unwrap();
        assert_eq!(text(&read_back), r#"["a\u001b",-7,2.0,{1:h'00ff'},null]"#);
        let expected = serde_json::json!(["a\u{1b}", -7, 2.0, {"1": {"bytes": "00ff"}}, null]);
        assert_eq!(json(&read_back), expected);
        bytes.push(0);
        assert_eq!(read(&bytes), None, "bytes follow");
    }

    #[test]
    fn deep_and_truncated_data_is_refused() {
        assert_eq!(read(&[0x91; 100_000]), None);
        assert_eq!(read(&[0xdd, 255, 255, 255, 255]), None);
        assert_eq!(read(&[]), None);
    }
}
