//! Values of other crates in their natural formats.

use std::fmt::Debug;

use larder::{Bytes, CodecId, Kind, TierKind, kinds, ucache};
use larder_core::codec::{Codec, Encoded, ValueCodec, Values};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Asserts that a value round-trips, with its measured length and in its own codec.
#[track_caller]
fn check<V>(value: V, codec: CodecId, kind: Kind) -> Encoded
where
    V: Serialize + DeserializeOwned + PartialEq + Debug + 'static,
{
    let values = Values::<V>::new(Codec::Auto);
    let encoded = values.encode(&value).unwrap();
    assert_eq!((encoded.codec, kinds::of::<V>()), (codec, kind));
    assert_eq!(values.measure(&value).unwrap(), encoded.bytes.len() as u64);
    assert_eq!(values.decode(encoded.clone()).unwrap(), value);
    let named = Values::<(u8, V)>::new(Codec::Auto);
    let pair = (7, value);
    assert_eq!(named.decode(named.encode(&pair).unwrap()).unwrap(), pair, "as a part of another type");
    encoded
}

/// Damages the bytes. Decoding must return a value or an error.
fn damage<V: Serialize + DeserializeOwned + 'static>(encoded: &Encoded, also_errors: bool) {
    let values = Values::<V>::new(Codec::Auto);
    let decode = |bytes: Vec<u8>| values.decode(Encoded { bytes: Bytes::from(bytes), ..encoded.clone() });
    let whole = encoded.bytes.to_vec();
    for len in 0..whole.len() {
        assert!(decode(whole[..len].to_vec()).is_err(), "cut to {len} bytes");
    }
    assert!(decode([&whole[..], b"x"].concat()).is_err(), "one byte more");
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..4000 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            bytes[at] = *random.choice(&[0, 1, 0x7f, 0x80, 0xff]).unwrap();
        }
        let _value_or_error = decode(bytes);
    }
    for at in (0..whole.len().saturating_sub(8)).filter(|_| also_errors) {
        let mut bytes = whole.clone();
        bytes[at..at + 8].fill(0xff);
        let _value_or_error = decode(bytes);
    }
}

/// Asserts that a value of this type is placed in `home` and read from there.
#[track_caller]
fn placed<V>(value: V, home: TierKind)
where
    V: Clone + Serialize + DeserializeOwned + PartialEq + Debug + Send + Sync + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let cache = ucache::<u8, V>("natural").dir(dir.path()).memory_bytes(0).build().unwrap();
    assert_eq!(cache.try_insert(1, value.clone()).unwrap().home, home);
    assert_eq!(cache.get(&1), Some(value));
    assert_eq!(cache.stats().cache.dropped, 0);
    cache.close().unwrap();
}

#[cfg(feature = "json")]
mod json {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn documents_are_stored_as_json() {
        let document = json!({"a": [1, -2, 2.5, null, true], "b": {"": "\u{0}ü"}, "c": u64::MAX, "d": 1.0});
        let encoded = check(document.clone(), CodecId::Json, Kind::Json);
        assert_eq!(serde_json::from_slice::<Value>(&encoded.bytes).unwrap(), document);
        check(std::sync::Arc::new(document), CodecId::Json, Kind::Json);
        check(Value::Null, CodecId::Json, Kind::Json);
        check(json!([]), CodecId::Json, Kind::Json);
        damage::<Value>(&encoded, true);
        placed(json!({"text": "x".repeat(5000)}), TierKind::Disk);
    }

    #[test]
    fn json_documents_are_compressed() {
        let dir = tempfile::tempdir().unwrap();
        let cache = ucache::<u8, Value>("compressed").dir(dir.path()).build().unwrap();
        cache.try_insert(1, json!({"text": "x".repeat(5000)})).unwrap();
        assert!(cache.explain(&1).unwrap().stored_bytes.unwrap() < 500);
        cache.close().unwrap();
    }

    #[test]
    fn named_codec_wins_over_the_natural_format() {
        let values = Values::<Value>::new(Codec::MessagePack);
        let encoded = values.encode(&json!({"a": 1})).unwrap();
        assert_eq!(encoded.codec, CodecId::MessagePack);
        assert_eq!(
            Values::<Value>::new(Codec::Auto).decode(encoded).unwrap(),
            json!({"a": 1}),
            "both are read"
        );
    }

    #[test]
    fn document_too_deep_to_be_read_is_not_written() {
        let nested = |depth: usize| (0..depth).fold(json!(1), |inner, _| json!([inner]));
        check(nested(100), CodecId::Json, Kind::Json);
        let values = Values::<Value>::new(Codec::Auto);
        for depth in [126, 127, 128, 129, 1000] {
            if let Ok(encoded) = values.encode(&nested(depth)) {
                assert_eq!(values.decode(encoded).unwrap(), nested(depth), "{depth} deep");
            }
        }
        assert!(values.encode(&nested(127)).is_ok() && values.encode(&nested(128)).is_err());
    }
}

#[cfg(feature = "ndarray")]
mod arrays {
    use ndarray::{ArcArray, Array, Array1, Array2, ArrayD, Axis, Ix2, Ix3, ShapeBuilder, Slice, arr0, arr2};

    use super::*;

    #[test]
    fn arrays_of_every_shape_round_trip() {
        check(arr0(7_i64), CodecId::Array, Kind::Array);
        check(Array1::<f64>::zeros(0), CodecId::Array, Kind::Array);
        check(Array::<u8, Ix3>::zeros((2, 0, 5)), CodecId::Array, Kind::Array);
        check(ArrayD::<i128>::from_elem(vec![1, 2, 1, 2, 1, 1, 2], -3), CodecId::Array, Kind::Array);
        check(ArcArray::<f32, Ix2>::from_elem((3, 4), 0.5), CodecId::Array, Kind::Array);
        check(arr2(&[[true, false], [false, false]]), CodecId::Array, Kind::Array);
        let encoded = check(arr2(&[[1_u16, 2, 3], [4, 5, 6]]), CodecId::Array, Kind::Array);
        assert_eq!(
            encoded.bytes[..],
            [2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]
        );
        damage::<Array2<u16>>(&encoded, true);
        placed(Array2::<f64>::ones((100, 100)), TierKind::File);
    }

    #[test]
    fn arrays_of_every_memory_layout_round_trip() {
        let numbers = Array::from_iter(0..24_u32).into_shape_with_order((4, 6)).unwrap();
        let fortran = Array2::from_shape_vec((4, 6).f(), (0..24_u32).collect()).unwrap();
        let columns_first = check(fortran.clone(), CodecId::Array, Kind::Array);
        let standard =
            Values::<Array2<u32>>::new(Codec::Auto).encode(&fortran.as_standard_layout().to_owned());
        assert_eq!(columns_first, standard.unwrap(), "equal arrays have equal bytes");
        let mut reversed = numbers.clone();
        reversed.invert_axis(Axis(0));
        reversed.slice_axis_inplace(Axis(1), Slice::new(1, None, 2));
        assert!(!reversed.is_standard_layout());
        check(reversed, CodecId::Array, Kind::Array);
        check(numbers.reversed_axes(), CodecId::Array, Kind::Array);
    }

    #[test]
    fn array_with_wrong_axes_is_refused() {
        fn refused<V: Serialize + DeserializeOwned + Debug + 'static>(axes: &[u64], elements: &[u8]) {
            let mut bytes = u32::try_from(axes.len()).unwrap().to_le_bytes().to_vec();
            axes.iter().for_each(|axis| bytes.extend(axis.to_le_bytes()));
            bytes.extend(elements);
            let encoded = Encoded { codec: CodecId::Array, shape: 12, bytes: bytes.into() };
            assert!(Values::<V>::new(Codec::Auto).decode(encoded).is_err(), "{axes:?}");
        }
        refused::<Array2<u8>>(&[u64::MAX, u64::MAX], &[1]);
        refused::<Array2<u8>>(&[u64::MAX, 0], &[]);
        refused::<Array2<u8>>(&[1 << 32, 1 << 32], &[]);
        refused::<Array2<u8>>(&[2], &[1, 2]);
        refused::<ArrayD<u8>>(&[1 << 40], &[1, 2]);
        let huge = Encoded { codec: CodecId::Array, shape: 12, bytes: Bytes::from_static(&[0xff; 12]) };
        assert!(Values::<ArrayD<u8>>::new(Codec::Auto).decode(huge).is_err(), "as many axes as there can be");
    }

    #[test]
    fn array_of_another_type_is_refused() {
        let encoded = Values::<Array2<f32>>::new(Codec::Auto).encode(&Array2::ones((2, 2))).unwrap();
        assert!(Values::<Array2<u32>>::new(Codec::Auto).decode(encoded.clone()).is_err());
        assert!(Values::<Array1<f32>>::new(Codec::Auto).decode(encoded.clone()).is_err());
        assert!(Values::<Vec<f32>>::new(Codec::Auto).decode(encoded).is_err());
    }
}

#[cfg(feature = "image")]
mod pictures {
    use image::{DynamicImage, ImageBuffer, Luma, Rgba};
    use larder::natural::Image;

    use super::*;

    #[test]
    fn pictures_of_every_layout_round_trip() {
        let all = [
            DynamicImage::new_luma8(3, 5),
            DynamicImage::new_luma_a8(1, 1),
            DynamicImage::new_rgb8(0, 7),
            DynamicImage::new_rgba8(16, 9),
            DynamicImage::new_luma16(2, 2),
            DynamicImage::new_luma_a16(2, 3),
            DynamicImage::new_rgb16(3, 2),
            DynamicImage::new_rgba16(5, 1),
            DynamicImage::new_rgb32f(2, 1),
            DynamicImage::new_rgba32f(1, 2),
        ];
        for picture in all {
            check(Image::from(picture), CodecId::Pixels, Kind::Image);
        }
        let shades = ImageBuffer::from_fn(7, 3, |x, y| Luma([u16::try_from(1000 * x + y).unwrap()]));
        let encoded = check(Image::from(DynamicImage::ImageLuma16(shades)), CodecId::Pixels, Kind::Image);
        damage::<Image>(&encoded, true);
        let colors = ImageBuffer::from_fn(300, 200, |x, y| Rgba([x as u8, y as u8, 3, 4]));
        placed(Image::from(DynamicImage::ImageRgba8(colors)), TierKind::File);
    }

    #[test]
    fn picture_with_wrong_size_is_refused() {
        for [layout, width, height] in [[2, u32::MAX, u32::MAX], [9, u32::MAX, 1], [0, 2, 2], [10, 1, 1]] {
            let mut bytes = Vec::new();
            [layout, width, height].iter().for_each(|word| bytes.extend(word.to_le_bytes()));
            bytes.push(7);
            assert!(Image::decode(&bytes).is_err(), "{layout} {width} {height}");
        }
    }

    #[test]
    fn picture_whose_color_space_would_be_lost_is_refused() {
        let mut picture = DynamicImage::new_rgb8(1, 1);
        picture.set_color_space(image::metadata::Cicp::SRGB_LINEAR).unwrap();
        assert!(Image::from(picture).encode().is_err());
    }
}

#[cfg(feature = "arrow")]
mod frames {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{
        ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray, NullArray, RecordBatch,
        RecordBatchOptions, StringArray,
    };
    use arrow_schema::{DataType, Field, Schema};
    use larder::natural::Frame;

    use super::*;

    fn columns() -> RecordBatch {
        let words: DictionaryArray<Int32Type> = ["a", "b", "a", "c"].into_iter().collect();
        let lists = vec![Some(vec![Some(1), None]), None, Some(vec![]), Some(vec![Some(4)])];
        let columns: [(&str, ArrayRef); 6] = [
            ("number", Arc::new(Int64Array::from(vec![Some(1), None, Some(-3), Some(i64::MAX)]))),
            ("share", Arc::new(Float64Array::from(vec![0.5, f64::INFINITY, -0.0, 1e300]))),
            ("text", Arc::new(StringArray::from(vec![Some("x"), Some(""), None, Some("кладовая")]))),
            ("is it", Arc::new(BooleanArray::from(vec![true, false, true, true]))),
            ("word", Arc::new(words)),
            ("list", Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(lists))),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    #[test]
    fn data_frames_round_trip() {
        let encoded = check(Frame::from(columns()), CodecId::Arrow, Kind::Frame);
        damage::<Frame>(&encoded, true);
        check(Frame::from(columns().slice(1, 2)), CodecId::Arrow, Kind::Frame);
        check(Frame::from(columns().slice(4, 0)), CodecId::Arrow, Kind::Frame);
        let schema = Arc::new(Schema::new(vec![Field::new("none", DataType::Null, true)]));
        let metadata = std::collections::HashMap::from([("source".to_owned(), "here".to_owned())]);
        let schema = Arc::new(schema.as_ref().clone().with_metadata(metadata));
        let nulls = RecordBatch::try_new(schema, vec![Arc::new(NullArray::new(3))]).unwrap();
        check(Frame::from(nulls), CodecId::Arrow, Kind::Frame);
    }

    #[test]
    fn data_frames_without_columns_or_rows_round_trip() {
        let options = RecordBatchOptions::new().with_row_count(Some(5));
        let bare = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).unwrap();
        check(Frame::from(bare), CodecId::Arrow, Kind::Frame);
        check(Frame::from(RecordBatch::new_empty(columns().schema())), CodecId::Arrow, Kind::Frame);
    }

    #[test]
    fn large_data_frame_goes_to_a_file() {
        let numbers: ArrayRef = Arc::new(Float64Array::from_iter_values((0..10_000).map(f64::from)));
        let batch = RecordBatch::try_from_iter([("number", numbers)]).unwrap();
        placed(Frame::from(batch), TierKind::File);
    }
}
