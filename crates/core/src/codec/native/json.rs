//! JSON documents as JSON: what bincode cannot carry, and MessagePack makes
//! into something else.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::super::values::{count, failed, undecodable};
use super::{Native, Offer};
use crate::frame::CodecId;
use crate::{Error, ErrorKind, Result};

pub(super) fn offer(offer: Offer<'_>) {
    offer(&mut Some(Native::<Value> { codec: CodecId::Json, shape: 0, yields: true, len, encode, decode }));
    offer(&mut Some(Native::<Arc<Value>> {
        codec: CodecId::Json,
        shape: 0,
        yields: true,
        len,
        encode,
        decode: |bytes| decode(bytes).map(Arc::new),
    }));
}

/// What is nested deeper is not read back, so that no bytes can exhaust a stack.
const DEPTH_MAX: usize = 127;

fn len(value: &impl Borrow<Value>) -> Result<u64> {
    count(|sink| serde_json::to_writer(sink, value.borrow()))
}

fn encode(value: &impl Borrow<Value>) -> Result<Bytes> {
    if !is_within(value.borrow(), DEPTH_MAX) {
        let message = format!("the value cannot be encoded: it is nested deeper than {DEPTH_MAX}");
        return Err(Error::new(ErrorKind::Codec, message));
    }
    Ok(serde_json::to_vec(value.borrow()).map_err(|error| failed("encoded", error))?.into())
}

fn is_within(value: &Value, depth: usize) -> bool {
    match (value, depth.checked_sub(1)) {
        (Value::Array(items), Some(rest)) => items.iter().all(|item| is_within(item, rest)),
        (Value::Object(fields), Some(rest)) => fields.values().all(|field| is_within(field, rest)),
        (Value::Array(_) | Value::Object(_), None) => false,
        _ => true,
    }
}

fn decode(bytes: Bytes) -> Result<Value> {
    serde_json::from_slice(&bytes).map_err(|error| undecodable("JSON", error))
}
