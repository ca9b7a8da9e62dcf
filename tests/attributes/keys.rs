//! Keys of cached functions: calls share an entry exactly if their arguments are equal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use larder::{mcache, ucache};

use super::{Runs, empty, folder};

/// Makes two calls after a clear, and asserts how often the function ran.
macro_rules! check {
    ($($first:expr, $second:expr => $runs:literal;)+) => {$({
        clear_all();
        RUNS.take();
        let _first = $first;
        let _second = $second;
        assert_eq!(RUNS.take(), $runs, "{} and {}", stringify!($first), stringify!($second));
    })+};
}

static RUNS: Runs = Runs::new();

#[mcache]
fn text(a: &str) -> usize {
    RUNS.count();
    a.len()
}

#[mcache]
fn owned(a: String) -> usize {
    RUNS.count();
    a.len()
}

#[mcache]
fn two(a: &str, b: &str) -> usize {
    RUNS.count();
    a.len() + b.len()
}

#[mcache]
fn list(a: &[&str]) -> usize {
    RUNS.count();
    a.len()
}

#[mcache]
fn float(a: f64) -> f64 {
    RUNS.count();
    a
}

#[mcache]
fn floats(a: &[f64], b: Option<f32>, c: (u8, f64)) -> usize {
    RUNS.count();
    let _ = (b, c);
    a.len()
}

#[mcache]
fn into(a: impl Into<i64>) -> i64 {
    RUNS.count();
    a.into()
}

#[mcache]
fn maybe(a: Option<&str>) -> bool {
    RUNS.count();
    a.is_some()
}

#[derive(Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
enum Value {
    Int(i64),
    Big(u64),
    Bool(bool),
    Text(String),
    Many(Vec<Value>),
    Named { a: Option<u8>, b: Option<u8> },
}

#[mcache]
fn value(a: &Value) -> bool {
    RUNS.count();
    matches!(a, Value::Bool(_))
}

#[mcache]
fn path(a: &Path) -> bool {
    RUNS.count();
    a.is_absolute()
}

#[mcache]
fn map(a: &BTreeMap<String, u8>) -> usize {
    RUNS.count();
    a.len()
}

#[mcache]
fn numbers(a: u8, b: u8) -> u8 {
    RUNS.count();
    a - b
}

/// The same over lower tiers, which compare keys by their encodings.
#[ucache(dir = folder("keys"), memory_bytes = 0, persistence = larder::Persistence::LongTerm)]
fn encoded(a: Value, b: &str, c: f64) -> usize {
    RUNS.count();
    let _ = (a, c);
    b.len()
}

fn clear_all() {
    for cleared in [
        text::clear(),
        owned::clear(),
        two::clear(),
        list::clear(),
        float::clear(),
        floats::clear(),
        into::clear(),
        maybe::clear(),
        value::clear(),
        path::clear(),
        map::clear(),
        numbers::clear(),
        encoded::clear(),
    ] {
        cleared.unwrap();
    }
}

#[test]
fn equal_arguments_share_an_entry_and_different_ones_do_not() {
    empty("keys");
    let string = String::from("a");
    let (words, more) = (Vec::from(["a", "b"]), Vec::from([1.0, f64::NAN]));
    let other_nan = f64::from_bits(f64::NAN.to_bits() ^ 1);
    check! {
        text("a"), text(&string) => 1;
        text("a"), text(&"ab"[..1]) => 1;
        text("a"), text("A") => 2;
        text(""), text("\0") => 2;
        owned("a".to_owned()), owned(string.clone()) => 1;
        owned("1".to_owned()), owned("1.0".to_owned()) => 2;
        two("a", "b"), two(&string, "b") => 1;
        two("a:", "b"), two("a", ":b") => 2;
        two("", "ab"), two("ab", "") => 2;
        list(&["a", "b"]), list(&words) => 1;
        list(&["a", "b"]), list(&["ab"]) => 2;
        list(&[]), list(&[""]) => 2;
        float(1.0), float(0.5 + 0.5) => 1;
        float(f64::NAN), float(f64::NAN) => 1;
        float(f64::NAN), float(other_nan) => 2;
        float(0.0), float(-0.0) => 2;
        floats(&[1.0, f64::NAN], Some(1.0), (1, 2.0)), floats(&more, Some(1.0), (1, 2.0)) => 1;
        floats(&[1.0], None, (1, 2.0)), floats(&[1.0], Some(0.0), (1, 2.0)) => 2;
        floats(&[0.0], None, (1, 2.0)), floats(&[-0.0], None, (1, 2.0)) => 2;
        into(1_u8), into(1_i64) => 1;
        into(true), into(1_i32) => 1;
        into(1_u8), into(-1_i8) => 2;
        maybe(Some("")), maybe(None) => 2;
        maybe(Some("a")), maybe(Some(&string)) => 1;
        value(&Value::Int(1)), value(&Value::Int(1)) => 1;
        value(&Value::Int(1)), value(&Value::Big(1)) => 2;
        value(&Value::Int(1)), value(&Value::Bool(true)) => 2;
        value(&Value::Int(1)), value(&Value::Text("1".into())) => 2;
        value(&Value::Named { a: Some(1), b: None }), value(&Value::Named { a: None, b: Some(1) }) => 2;
        value(&Value::Many(vec![])), value(&Value::Many(vec![Value::Many(vec![])])) => 2;
        path(Path::new("/a")), path(&PathBuf::from("/a")) => 1;
        map(&BTreeMap::from([("a".into(), 1)])), map(&BTreeMap::from([("a".into(), 1)])) => 1;
        map(&BTreeMap::from([("a".into(), 1)])), map(&BTreeMap::from([("a".into(), 2)])) => 2;
        numbers(2, 1), numbers(2, 1) => 1;
        numbers(2, 1), numbers(1, 0) => 2;
        encoded(Value::Int(1), "a", 1.0), encoded(Value::Int(1), &string, 1.0) => 1;
        encoded(Value::Int(1), "a", 1.0), encoded(Value::Big(1), "a", 1.0) => 2;
        encoded(Value::Int(1), "a", 1.0), encoded(Value::Bool(true), "a", 1.0) => 2;
        encoded(Value::Int(1), "a", 1.0), encoded(Value::Text("1".into()), "a", 1.0) => 2;
        encoded(Value::Int(1), "a", 0.0), encoded(Value::Int(1), "a", -0.0) => 2;
        encoded(Value::Int(1), "a", f64::NAN), encoded(Value::Int(1), "a", f64::NAN) => 1;
        encoded(Value::Named { a: Some(1), b: None }, "", 1.0), encoded(Value::Named { a: None, b: Some(1) }, "", 1.0) => 2;
    }
}

#[test]
fn values_of_different_enum_variants_are_different_keys() {
    // Arguments of different types need different functions. One function that takes them all has
    // an enum as its argument.
    let all = [
        Value::Int(1),
        Value::Big(1),
        Value::Bool(true),
        Value::Text("1".into()),
        Value::Text("true".into()),
    ];
    value::clear().unwrap();
    for argument in &all {
        value(argument);
    }
    assert_eq!(value::cache().unwrap().len(), 5);
}
