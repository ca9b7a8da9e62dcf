//! Record batches of Arrow as tables.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::DataType;
use larder_core::Bytes;
use larder_core::natural::Frame;
use serde_json::{Map, Value as Json, json};

use crate::printer::{TextTable, count, escaped_line};

/// The rows that a table shows.
const ROWS_MAX: usize = 20;

/// The record batch as a table, with the types of its columns; `None` for other bytes.
pub(crate) fn text(bytes: &Bytes) -> Option<String> {
    let frame = Frame::decode(bytes.clone()).ok()?;
    let rows = frame.num_rows();
    let mut table = titled(&frame);
    for row in 0..rows.min(ROWS_MAX) {
        table.row(frame.columns().iter().map(|column| match cell(column, row) {
            Json::String(text) => escaped_line(&text),
            other => escaped_line(&other.to_string()),
        }));
    }
    let size = [count(rows as u64, "row", "rows"), count(frame.num_columns() as u64, "column", "columns")]
        .join(", ");
    let more = if rows > ROWS_MAX { format!("\n… the first {ROWS_MAX} rows") } else { String::new() };
    Some(format!("{size}\n{}{more}", table.to_string().trim_end()))
}

/// The record batch as JSON: a list of objects; `None` for other bytes.
pub(crate) fn json(bytes: &Bytes) -> Option<Json> {
    let frame = Frame::decode(bytes.clone()).ok()?;
    Some((0..frame.num_rows()).map(|row| object(&frame, row)).collect())
}

fn object(frame: &RecordBatch, row: usize) -> Json {
    let schema = frame.schema();
    let names = schema.fields().iter().map(|field| field.name().clone());
    Json::Object(names.zip(frame.columns()).map(|(name, column)| (name, cell(column, row))).collect())
}

/// A table whose heading has the names and the types of the columns.
fn titled(frame: &RecordBatch) -> TextTable {
    let schema = frame.schema();
    let title =
        |field: &arrow_schema::FieldRef| escaped_line(&format!("{} ({})", field.name(), field.data_type()));
    let titles: Vec<String> = schema.fields().iter().map(title).collect();
    TextTable::new(&titles.iter().map(String::as_str).collect::<Vec<_>>(), &[])
}

/// A value of a column: numbers and text as they are, bytes in hexadecimal digits, dates and times as the numbers that
/// they are stored as, and the name of the type for what is none of these.
fn cell(column: &dyn Array, row: usize) -> Json {
    macro_rules! numbers {
        ($($name:ident $type:ty),+) => {
            match column.data_type() {
                $(DataType::$name => return json!(column.as_primitive::<$type>().value(row)),)+
                _ => {}
            }
        };
    }
    if column.is_null(row) {
        return Json::Null;
    }
    numbers!(
        Int8 Int8Type, Int16 Int16Type, Int32 Int32Type, Int64 Int64Type,
        UInt8 UInt8Type, UInt16 UInt16Type, UInt32 UInt32Type, UInt64 UInt64Type
    );
    match column.data_type() {
        DataType::Boolean => json!(column.as_boolean().value(row)),
        DataType::Float16 => float(column.as_primitive::<Float16Type>().value(row).to_string()),
        DataType::Float32 => float(column.as_primitive::<Float32Type>().value(row).to_string()),
        DataType::Float64 => float(column.as_primitive::<Float64Type>().value(row).to_string()),
        DataType::Utf8 => json!(column.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => json!(column.as_string::<i64>().value(row)),
        DataType::Utf8View => json!(column.as_string_view().value(row)),
        DataType::Binary => hex(column.as_binary::<i32>().value(row)),
        DataType::LargeBinary => hex(column.as_binary::<i64>().value(row)),
        DataType::BinaryView => hex(column.as_binary_view().value(row)),
        DataType::FixedSizeBinary(_) => hex(column.as_fixed_size_binary().value(row)),
        DataType::List(_) => list(&column.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(row)),
        DataType::Struct(fields) => {
            let columns = column.as_struct().columns();
            let members = fields.iter().zip(columns);
            Json::Object(
                members
                    .map(|(field, column)| (field.name().clone(), cell(column, row)))
                    .collect::<Map<_, _>>(),
            )
        }
        other => json!(format!("({other})")),
    }
}

fn list(items: &dyn Array) -> Json {
    (0..items.len()).map(|item| cell(items, item)).collect()
}

/// A number; one that JSON does not have as text.
fn float(text: String) -> Json {
    serde_json::from_str(&text).unwrap_or(Json::String(text))
}

fn hex(bytes: &[u8]) -> Json {
    json!(larder_core::hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, BinaryArray, Float64Array, Int64Array, StringArray};

    use super::*;

    fn frame(columns: Vec<(&str, ArrayRef)>) -> Bytes {
        Frame::from(
            RecordBatch::try_from_iter_with_nullable(
                columns.into_iter().map(|(name, column)| (name, column, true)),
            )
            .unwrap(),
        )
        .encode()
        .unwrap()
    }

    #[test]
    fn batch_is_a_table_without_control_codes() {
        let bytes = frame(vec![
            ("day", Arc::new(Int64Array::from(vec![Some(1), None]))),
            ("rate\u{1b}[2J", Arc::new(Float64Array::from(vec![0.5, f64::NAN]))),
            ("note", Arc::new(StringArray::from(vec!["a\nb", "\u{202e}c"]))),
            ("raw", Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..], b""]))),
        ]);
        let expected = "2 rows, 4 columns\n\
            day (Int64)  rate\\u{1b}[2J (Float64)  note (Utf8)  raw (Binary)\n\
            1            0.5                      a\\nb         00ff\n\
            null         NaN                      \\u{202e}c";
        assert_eq!(text(&bytes).unwrap(), expected);
        let first = json!({ "day": 1, "rate\u{1b}[2J": 0.5, "note": "a\nb", "raw": "00ff" });
        assert_eq!(json(&bytes).unwrap()[0], first);
    }

    #[test]
    fn long_batch_is_cut_and_other_bytes_are_none() {
        let text = text(&frame(vec![("n", Arc::new(Int64Array::from_iter_values(0..100)))])).unwrap();
        assert!(
            text.starts_with("100 rows, 1 column\n") && text.ends_with("\n19\n… the first 20 rows"),
            "{text}"
        );
        assert!(super::text(&Bytes::from_static(b"\xff\xff\xff\xff\0\0\0\0x")).is_none());
    }
}
