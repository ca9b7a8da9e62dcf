//! A sample value for each preset.

use larder::Bytes;
use serde::{Deserialize, Serialize};

/// Pseudo-random numbers with a fixed seed.
fn noise() -> impl Iterator<Item = u32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u32
    })
}

pub(crate) fn text() -> String {
    "The quick brown fox jumps over the lazy dog. ".repeat(4_000)
}

/// Incompressible bytes.
pub(crate) fn bytes() -> Bytes {
    noise().map(|number| number as u8).take(64 << 10).collect()
}

/// Weights of a few layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    name: String,
    layers: Vec<Vec<f32>>,
}

pub(crate) fn model() -> Model {
    let layer = || noise().map(|number| number as f32 / u32::MAX as f32).take(256 << 10).collect();
    Model { name: "three layers".to_owned(), layers: vec![layer(), layer(), layer()] }
}

/// Session data of a visitor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    user: u64,
    name: String,
    roles: Vec<String>,
    cart: Vec<(u64, u32)>,
}

pub(crate) fn session() -> Session {
    Session {
        user: 7,
        name: "Ada".to_owned(),
        roles: vec!["reader".to_owned(), "writer".to_owned()],
        cart: (0..16).map(|article| (article, 1)).collect(),
    }
}

pub(crate) const DOCUMENT: &str = "`serde_json::Value`";

pub(crate) fn document() -> serde_json::Value {
    let article = |number: u32| serde_json::json!({"id": number, "name": format!("article {number}"), "tags": ["a", "b"]});
    serde_json::json!({"articles": (0..80).map(article).collect::<Vec<_>>()})
}

pub(crate) const PICTURE: &str = "`natural::Image`, RGB";

pub(crate) fn picture() -> larder::natural::Image {
    let samples = noise().map(|number| number as u8).take(640 * 480 * 3).collect();
    let buffer = image::RgbImage::from_raw(640, 480, samples).unwrap_or_default();
    larder::natural::Image::from(image::DynamicImage::from(buffer))
}

pub(crate) const ARRAY: &str = "`ndarray::Array2<f64>`";

pub(crate) fn array() -> ndarray::Array2<f64> {
    ndarray::Array2::from_shape_fn((512, 512), |(row, column)| (row as f64).sin() * (column as f64).cos())
}

pub(crate) const FRAME: &str = "`natural::Frame`, 3 columns";

pub(crate) fn frame() -> larder::natural::Frame {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Float64Array, Int64Array, RecordBatch};
    let rows = 88_000;
    let number = || noise().map(|number| f64::from(number) / 1e6).take(rows);
    let columns: [(&str, ArrayRef); 3] = [
        ("day", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        ("price", Arc::new(Float64Array::from_iter_values(number()))),
        ("amount", Arc::new(Float64Array::from_iter_values(number().map(f64::sqrt)))),
    ];
    let batch = RecordBatch::try_from_iter(columns);
    larder::natural::Frame::from(batch.unwrap_or_else(|_| unreachable!("columns of one length")))
}
