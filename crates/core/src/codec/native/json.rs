//! JSON documents, stored as JSON: bincode cannot represent them, and MessagePack changes them.

use std::borrow::Borrow;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use super::super::measure::JSON_DEPTH_MAX as DEPTH_MAX;
use super::super::values::{count, failed, undecodable};
use super::{Native, Offer};
use crate::frame::CodecId;
use crate::{Error, ErrorKind, Result};

pub(super) fn offer(offer: Offer<'_>) {
    offer(&mut Some(Native::<Value> {
        codec: CodecId::Json,
        shape: 0,
        yields: true,
        len,
        encode,
        bytes: None,
        decode,
    }));
    offer(&mut Some(Native::<Arc<Value>> {
        codec: CodecId::Json,
        shape: 0,
        yields: true,
        len,
        encode,
        bytes: None,
        decode: |bytes| decode(bytes).map(Arc::new),
    }));
}

fn len(value: &impl Borrow<Value>) -> Result<u64> {
    check_depth(value.borrow())?;
    count(|sink| serde_json::to_writer(sink, value.borrow()))
}

fn encode(value: &impl Borrow<Value>) -> Result<Bytes> {
    check_depth(value.borrow())?;
    Ok(serde_json::to_vec(value.borrow()).map_err(|error| failed("encoded", error))?.into())
}

fn check_depth(value: &Value) -> Result<()> {
    if is_within(value, DEPTH_MAX) {
        return Ok(());
    }
    let message = format!("the value cannot be encoded: it is nested deeper than {DEPTH_MAX}");
    Err(Error::new(ErrorKind::Codec, message))
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
