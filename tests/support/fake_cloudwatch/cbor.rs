//! CBOR as far as Smithy RPC v2 needs it. Own code and not a library, because a call with 500 queries has thousands of
//! items and must be read and answered in milliseconds without optimisation; the fake's tests hold it against ciborium.

use std::borrow::Cow;

/// Writes an answer. Lengths are said before contents, as the SDK accepts and as needs no second pass.
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(Vec::with_capacity(bytes))
    }

    fn head(&mut self, major: u8, value: u64) {
        let major = major << 5;
        match value {
            0..24 => self.0.push(major | value as u8),
            24..0x100 => self.0.extend_from_slice(&[major | 24, value as u8]),
            0x100..0x1_0000 => {
                self.0.push(major | 25);
                self.0.extend_from_slice(&(value as u16).to_be_bytes());
            }
            0x1_0000..0x1_0000_0000 => {
                self.0.push(major | 26);
                self.0.extend_from_slice(&(value as u32).to_be_bytes());
            }
            _ => {
                self.0.push(major | 27);
                self.0.extend_from_slice(&value.to_be_bytes());
            }
        }
    }

    pub fn map(&mut self, pairs: usize) -> &mut Self {
        self.head(5, pairs as u64);
        self
    }

    pub fn array(&mut self, items: usize) -> &mut Self {
        self.head(4, items as u64);
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.head(3, text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// Always eight bytes: the SDK's `double` takes no integer in the place of a float.
    pub fn float(&mut self, value: f64) -> &mut Self {
        let mut item = [0xfb; 9];
        item[1..].copy_from_slice(&value.to_be_bytes());
        self.0.extend_from_slice(&item);
        self
    }

    /// Tag 1 and seconds as a float, which is what the SDK itself writes.
    pub fn time(&mut self, seconds: i64) -> &mut Self {
        self.0.push(0xc1);
        self.float(seconds as f64)
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// An item of a request. Tags are dropped: the only one is that of times.
#[derive(Debug, Clone, PartialEq)]
pub enum Item<'a> {
    Text(Cow<'a, str>),
    Int(i64),
    Float(f64),
    Bool(bool),
    Null,
    Bytes(&'a [u8]),
    Array(Vec<Item<'a>>),
    Map(Vec<(Cow<'a, str>, Item<'a>)>),
}

/// The one item that these bytes are, or nothing if they are not exactly one.
pub fn parse(bytes: &[u8]) -> Option<Item<'_>> {
    let mut reader = Reader { bytes, at: 0 };
    let item = reader.item(0)?;
    (reader.at == bytes.len()).then_some(item)
}

impl<'a> Item<'a> {
    pub fn get(&self, key: &str) -> Option<&Item<'a>> {
        let Self::Map(pairs) = self else { return None };
        let found = pairs.iter().find(|(name, _)| name == key)?;
        (found.1 != Self::Null).then_some(&found.1)
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub fn boolean(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            _ => None,
        }
    }

    pub fn list(&self) -> Option<&[Item<'a>]> {
        if let Self::Array(items) = self { Some(items) } else { None }
    }

    pub fn text_at(&self, key: &str) -> Option<&str> {
        self.get(key)?.text()
    }

    pub fn number_at(&self, key: &str) -> Option<f64> {
        self.get(key)?.number()
    }

    /// The list under a key, empty if there is none.
    pub fn list_at(&self, key: &str) -> &[Item<'a>] {
        self.get(key).and_then(Item::list).unwrap_or_default()
    }
}

/// A float of two bytes: the SDK writes none, other clients write the shortest that holds a value.
fn half(bits: u16) -> f64 {
    let (exponent, part) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff) / 1024.0);
    let value = match exponent {
        0 => part * 2_f64.powi(-14),
        31 if part == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + part) * 2_f64.powi(exponent - 15),
    };
    if bits & 0x8000 == 0 { value } else { -value }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// No request of CloudWatch is nested deeper than half of this.
const DEEPEST: usize = 16;

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    /// Whether the next byte ends an item whose length was not said; takes it then.
    fn ends(&mut self) -> bool {
        let ends = self.bytes.get(self.at) == Some(&0xff);
        self.at += usize::from(ends);
        ends
    }

    fn uint(&mut self, bytes: usize) -> Option<u64> {
        Some(self.take(bytes)?.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    }

    /// The number in a head, or nothing inside for a length that is not said.
    fn argument(&mut self, low: u8) -> Option<Option<u64>> {
        Some(Some(match low {
            0..24 => u64::from(low),
            24 => self.uint(1)?,
            25 => self.uint(2)?,
            26 => self.uint(4)?,
            27 => self.uint(8)?,
            31 => return Some(None),
            _ => return None,
        }))
    }

    fn item(&mut self, depth: usize) -> Option<Item<'a>> {
        if depth > DEEPEST {
            return None;
        }
        let head = self.take(1)?[0];
        let (major, low) = (head >> 5, head & 31);
        if major == 7 {
            return Some(match low {
                20 | 21 => Item::Bool(low == 21),
                22 | 23 => Item::Null,
                25 => Item::Float(half(self.uint(2)? as u16)),
                26 => Item::Float(f64::from(f32::from_bits(self.uint(4)? as u32))),
                27 => Item::Float(f64::from_bits(self.uint(8)?)),
                _ => return None,
            });
        }
        let argument = self.argument(low)?;
        Some(match major {
            0 => Item::Int(i64::try_from(argument?).ok()?),
            1 => Item::Int(-1 - i64::try_from(argument?).ok()?),
            2 => Item::Bytes(self.take(usize::try_from(argument?).ok()?)?),
            3 => Item::Text(self.string(argument)?),
            4 => {
                let mut items = Vec::new();
                while !self.done(argument, items.len()) {
                    items.push(self.item(depth + 1)?);
                }
                Item::Array(items)
            }
            5 => {
                let mut pairs = Vec::new();
                while !self.done(argument, pairs.len()) {
                    let Item::Text(key) = self.item(depth + 1)? else { return None };
                    pairs.push((key, self.item(depth + 1)?));
                }
                Item::Map(pairs)
            }
            _ => self.item(depth + 1)?,
        })
    }

    fn done(&mut self, length: Option<u64>, have: usize) -> bool {
        match length {
            Some(length) => have as u64 == length,
            None => self.ends(),
        }
    }

    fn string(&mut self, length: Option<u64>) -> Option<Cow<'a, str>> {
        if let Some(length) = length {
            let bytes = self.take(usize::try_from(length).ok()?)?;
            return Some(Cow::Borrowed(std::str::from_utf8(bytes).ok()?));
        }
        let mut whole = String::new();
        while !self.ends() {
            let Item::Text(Cow::Borrowed(part)) = self.item(DEEPEST)? else { return None };
            whole.push_str(part);
        }
        Some(Cow::Owned(whole))
    }
}
