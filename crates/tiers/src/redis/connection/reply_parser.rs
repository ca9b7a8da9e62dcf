//! Parses replies of RESP2 and RESP3 as their bytes arrive.

use redis::{PushKind, RedisError, RedisResult, Value};

/// How deep aggregates may be nested.
const DEPTH_MAX: usize = 100;
/// How many bytes or items are allocated for a length that the server announced, before they arrive.
const ALLOCATED_MAX: usize = 16 << 20;

/// What the next bytes contain.
#[derive(Debug, PartialEq)]
pub(in crate::redis) enum Parsed {
    /// A whole reply, or a push message.
    Value(Value),
    /// The head of an array whose items follow as replies of their own.
    ArrayOf(usize),
}

/// The state of a reply that has arrived in part.
#[derive(Default)]
pub(in crate::redis) struct ReplyParser {
    /// The aggregates that are not complete, outermost first.
    open: Vec<Aggregate>,
    string: Option<StringInProgress>,
}

struct Aggregate {
    kind: u8,
    left: usize,
    items: Vec<Value>,
}

/// A string with a length, of which some bytes are missing, or the end of its line.
struct StringInProgress {
    kind: u8,
    bytes: Vec<u8>,
    len: usize,
}

impl ReplyParser {
    /// Parses the next reply and removes it from `input`. `None` if it has not arrived as a whole; what is
    /// left of `input` must be passed again then, with more bytes. The outermost array is returned as its
    /// head and its items if `splits_array` is set.
    ///
    /// # Errors
    /// Bytes that are no reply. The connection cannot be used any more.
    pub(in crate::redis) fn parse(
        &mut self,
        input: &mut &[u8],
        splits_array: bool,
    ) -> RedisResult<Option<Parsed>> {
        loop {
            let value = match self.string.take() {
                Some(string) => match self.continue_string(string, input)? {
                    Some(value) => value,
                    None => return Ok(None),
                },
                None => {
                    let Some(line) = take_line(input) else { return Ok(None) };
                    if splits_array && self.open.is_empty() && line.first() == Some(&b'*') {
                        return Ok(Some(match length(line)? {
                            Some(items) => Parsed::ArrayOf(items),
                            None => Parsed::Value(Value::Nil),
                        }));
                    }
                    match self.begin(line)? {
                        Some(value) => value,
                        None => continue,
                    }
                }
            };
            if let Some(value) = self.add(value)? {
                return Ok(Some(Parsed::Value(value)));
            }
        }
    }

    /// The string that is being read, and how many of its bytes are missing.
    pub(in crate::redis) fn missing(&mut self) -> Option<(&mut Vec<u8>, usize)> {
        let string = self.string.as_mut()?;
        let missing = string.len.saturating_sub(string.bytes.len());
        Some((&mut string.bytes, missing))
    }

    /// Begins the value of a line. `None` if more than the line belongs to it.
    fn begin(&mut self, line: &[u8]) -> RedisResult<Option<Value>> {
        let Some((kind, text)) = line.split_first() else { return Err(malformed("an empty line")) };
        match kind {
            b'$' | b'=' | b'!' => {
                let Some(len) = length(line)? else { return Ok(Some(Value::Nil)) };
                let bytes = Vec::with_capacity(len.min(ALLOCATED_MAX));
                self.string = Some(StringInProgress { kind: *kind, bytes, len });
                Ok(None)
            }
            b'*' | b'~' | b'>' | b'%' | b'|' => {
                let Some(len) = length(line)? else { return Ok(Some(Value::Nil)) };
                let left = if matches!(kind, b'%' | b'|') { len.saturating_mul(2) } else { len };
                if self.open.len() >= DEPTH_MAX {
                    return Err(malformed("aggregates are nested too deep"));
                }
                let items = Vec::with_capacity(left.min(ALLOCATED_MAX / size_of::<Value>()));
                let aggregate = Aggregate { kind: *kind, left, items };
                if left == 0 {
                    return aggregate.value();
                }
                self.open.push(aggregate);
                Ok(None)
            }
            b'+' if text == b"OK" => Ok(Some(Value::Okay)),
            b'+' => Ok(Some(Value::SimpleString(String::from_utf8_lossy(text).into_owned()))),
            b':' => Ok(Some(Value::Int(number(text)?))),
            b'_' => Ok(Some(Value::Nil)),
            // An error, or a number that is not an integer: rare.
            _ => redis::parse_redis_value(&[line, b"\r\n"].concat()).map(Some),
        }
    }

    fn continue_string(
        &mut self,
        mut string: StringInProgress,
        input: &mut &[u8],
    ) -> RedisResult<Option<Value>> {
        let missing = string.len.saturating_sub(string.bytes.len());
        let (come, rest) = input.split_at(missing.min(input.len()));
        string.bytes.extend_from_slice(come);
        *input = rest;
        if come.len() < missing || rest.len() < 2 {
            self.string = Some(string);
            return Ok(None);
        }
        let Some(rest) = rest.strip_prefix(b"\r\n") else {
            return Err(malformed("a string is longer than its length"));
        };
        *input = rest;
        string.value().map(Some)
    }

    /// Adds a value to the innermost aggregate, which may complete it. Returns a whole reply.
    fn add(&mut self, mut value: Value) -> RedisResult<Option<Value>> {
        while let Some(innermost) = self.open.last_mut() {
            innermost.items.push(value);
            innermost.left -= 1;
            if innermost.left > 0 {
                return Ok(None);
            }
            let complete = self.open.pop().map(Aggregate::value).transpose()?.flatten();
            match complete {
                Some(complete) => value = complete,
                None => return Ok(None),
            }
        }
        Ok(Some(value))
    }
}

impl Aggregate {
    /// The complete aggregate. `None` for attributes, which describe the reply that follows and are ignored.
    fn value(self) -> RedisResult<Option<Value>> {
        let mut items = self.items.into_iter();
        Ok(match self.kind {
            b'*' => Some(Value::Array(items.collect())),
            b'~' => Some(Value::Set(items.collect())),
            b'%' => {
                let mut pairs = Vec::with_capacity(items.len() / 2);
                while let (Some(key), Some(value)) = (items.next(), items.next()) {
                    pairs.push((key, value));
                }
                Some(Value::Map(pairs))
            }
            b'>' => {
                let kind = match items.next() {
                    Some(Value::BulkString(kind)) => String::from_utf8_lossy(&kind).into_owned(),
                    Some(Value::SimpleString(kind)) => kind,
                    _ => return Err(malformed("a push message without a kind")),
                };
                let kind = if kind == "invalidate" { PushKind::Invalidate } else { PushKind::Other(kind) };
                Some(Value::Push { kind, data: items.collect() })
            }
            _ => None,
        })
    }
}

impl StringInProgress {
    fn value(self) -> RedisResult<Value> {
        if self.kind == b'$' {
            return Ok(Value::BulkString(self.bytes));
        }
        let head = format!("{}{}\r\n", char::from(self.kind), self.bytes.len());
        redis::parse_redis_value(&[head.as_bytes(), &self.bytes, b"\r\n"].concat())
    }
}

/// Takes a line from the input, without its end. `None` if it has not arrived as a whole.
fn take_line<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let line = &input[..end];
    *input = &input[end + 1..];
    Some(line.strip_suffix(b"\r").unwrap_or(line))
}

/// The length in the head of a string or an aggregate. `None` for a negative one, which is a null value.
fn length(line: &[u8]) -> RedisResult<Option<usize>> {
    Ok(usize::try_from(number(line.get(1..).unwrap_or_default())?).ok())
}

fn number(text: &[u8]) -> RedisResult<i64> {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix(b"+").unwrap_or(text)),
    };
    let mut number = 0_i64;
    for digit in digits {
        let next = Some(digit.wrapping_sub(b'0')).filter(|digit| *digit < 10);
        let shifted = number.checked_mul(10).zip(next);
        let signed = |(number, digit): (i64, u8)| {
            if negative { number.checked_sub(digit.into()) } else { number.checked_add(digit.into()) }
        };
        number = shifted.and_then(signed).ok_or_else(|| malformed("a number is malformed"))?;
    }
    if digits.is_empty() { Err(malformed("a number is malformed")) } else { Ok(number) }
}

fn malformed(what: &'static str) -> RedisError {
    (redis::ErrorKind::Parse, what).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLIES: &[u8] = b"+OK\r\n$5\r\nab\r\nc\r\n$-1\r\n*3\r\n:-12\r\n$0\r\n\r\n*1\r\n_\r\n>2\r\n$10\r\n\
        invalidate\r\n*1\r\n$1\r\nk\r\n%1\r\n+a\r\n#t\r\n|1\r\n+ttl\r\n:1\r\n-ERR no\r\n=6\r\ntxt:hi\r\n,1.5\r\n*0\r\n";

    fn expected() -> Vec<Value> {
        let text = |text: &[u8]| Value::BulkString(text.to_vec());
        vec![
            Value::Okay,
            text(b"ab\r\nc"),
            Value::Nil,
            Value::Array(vec![Value::Int(-12), text(b""), Value::Array(vec![Value::Nil])]),
            Value::Push { kind: PushKind::Invalidate, data: vec![Value::Array(vec![text(b"k")])] },
            Value::Map(vec![(Value::SimpleString("a".to_owned()), Value::Boolean(true))]),
            redis::parse_redis_value(b"-ERR no\r\n").unwrap(),
            redis::parse_redis_value(b"=6\r\ntxt:hi\r\n").unwrap(),
            Value::Double(1.5),
            Value::Array(Vec::new()),
        ]
    }

    #[test]
    fn replies_are_the_same_however_their_bytes_arrive() {
        for step in 1..=REPLIES.len() {
            let (mut parser, mut left, mut values) = (ReplyParser::default(), Vec::new(), Vec::new());
            for bytes in REPLIES.chunks(step) {
                left.extend_from_slice(bytes);
                let mut input = &left[..];
                while let Some(Parsed::Value(value)) = parser.parse(&mut input, false).unwrap() {
                    values.push(value);
                }
                left = input.to_vec();
            }
            assert_eq!(values, expected(), "{step} bytes at a time");
            assert!(left.is_empty());
        }
    }

    #[test]
    fn outermost_array_is_split_on_request() {
        let mut input = &b"*2\r\n$1\r\na\r\n*1\r\n:1\r\n"[..];
        let mut parser = ReplyParser::default();
        assert_eq!(parser.parse(&mut input, true).unwrap(), Some(Parsed::ArrayOf(2)));
        for item in [Value::BulkString(b"a".to_vec()), Value::Array(vec![Value::Int(1)])] {
            assert_eq!(parser.parse(&mut input, false).unwrap(), Some(Parsed::Value(item)));
        }
        assert_eq!(parser.parse(&mut input, false).unwrap(), None);
    }

    #[test]
    fn malformed_bytes_are_an_error() {
        let nested = b"*1\r\n".repeat(DEPTH_MAX + 1);
        for bytes in [
            &b"$x\r\n"[..],
            b":\r\n",
            b"$1\r\nabc\r\n",
            b"\r\n",
            b"?\r\n",
            b":99999999999999999999\r\n",
            &nested,
        ] {
            assert!(ReplyParser::default().parse(&mut &bytes[..], false).is_err(), "{bytes:?}");
        }
        // A length that never arrives allocates little.
        assert_eq!(ReplyParser::default().parse(&mut &b"*9223372036854775807\r\n"[..], false).unwrap(), None);
        assert_eq!(
            ReplyParser::default().parse(&mut &b"$9223372036854775807\r\na"[..], false).unwrap(),
            None
        );
    }
}
