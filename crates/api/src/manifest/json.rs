//! The reader of JSON: one value, or several one after the other.

use serde_json::Value;

use super::Position;
use super::scalar;
use super::tree::{Builder, Parsed, Stop};

/// `None` when the text is not JSON, though it may still be YAML.
pub(super) fn read(text: &str) -> Option<Parsed> {
    let mut reader = Reader {
        text,
        at: 0,
        marked: 0,
        position: Position { line: 1, column: 1 },
        builder: Builder::default(),
    };
    loop {
        reader.skip_space();
        if reader.peek().is_none() {
            return Some(reader.builder.parsed);
        }
        reader.builder.next_document();
        match reader.value() {
            Ok(()) => {}
            Err(Fault::NotJson) => return None,
            Err(Fault::TooMuch((at, message))) => {
                reader.builder.fault(at, message);
                return Some(reader.builder.parsed);
            }
        }
    }
}

enum Fault {
    NotJson,
    TooMuch(Stop),
}

impl From<Stop> for Fault {
    fn from(stop: Stop) -> Self {
        Self::TooMuch(stop)
    }
}

struct Reader<'t> {
    text: &'t str,
    /// The next byte.
    at: usize,
    /// The byte up to which lines and columns are counted.
    marked: usize,
    /// The place of that byte.
    position: Position,
    builder: Builder,
}

impl<'t> Reader<'t> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Goes over one byte that must come next.
    fn expect(&mut self, byte: u8) -> Result<(), Fault> {
        if self.peek() != Some(byte) {
            return Err(Fault::NotJson);
        }
        self.at += 1;
        Ok(())
    }

    /// The place of the next byte. Counts on from the last place, so that long lines stay cheap.
    fn mark(&mut self) -> Position {
        let passed = self.text.as_bytes().get(self.marked..self.at);
        for byte in passed.unwrap_or_default() {
            if *byte == b'\n' {
                self.position.line += 1;
                self.position.column = 1;
            } else if byte & 0b1100_0000 != 0b1000_0000 {
                // The first byte of a character; the others do not count.
                self.position.column += 1;
            }
        }
        self.marked = self.at;
        self.position
    }

    /// Recursion is bounded by the depth that the builder allows.
    fn value(&mut self) -> Result<(), Fault> {
        let at = self.mark();
        match self.peek().ok_or(Fault::NotJson)? {
            b'{' => self.object(at),
            b'[' => self.list(at),
            b'"' => {
                let text = self.string()?;
                Ok(self.builder.scalar(Value::String(text), at, 0)?)
            }
            b'-' | b'0'..=b'9' => self.number(at),
            _ => self.word(at),
        }
    }

    fn object(&mut self, at: Position) -> Result<(), Fault> {
        self.builder.open_map(at, 0)?;
        self.expect(b'{')?;
        self.skip_space();
        if self.peek() != Some(b'}') {
            loop {
                self.skip_space();
                let at = self.mark();
                let key = self.string()?;
                self.builder.key(&key, at, false)?;
                self.skip_space();
                self.expect(b':')?;
                self.skip_space();
                self.value()?;
                if !self.goes_on()? {
                    break;
                }
            }
        }
        self.expect(b'}')?;
        Ok(self.builder.close()?)
    }

    fn list(&mut self, at: Position) -> Result<(), Fault> {
        self.builder.open_list(at, 0)?;
        self.expect(b'[')?;
        self.skip_space();
        if self.peek() != Some(b']') {
            loop {
                self.skip_space();
                self.value()?;
                if !self.goes_on()? {
                    break;
                }
            }
        }
        self.expect(b']')?;
        Ok(self.builder.close()?)
    }

    /// Goes over a comma; `false` when a bracket comes in its place.
    fn goes_on(&mut self) -> Result<bool, Fault> {
        self.skip_space();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(b'}' | b']') => Ok(false),
            _ => Err(Fault::NotJson),
        }
    }

    fn string(&mut self) -> Result<String, Fault> {
        let start = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek().ok_or(Fault::NotJson)? {
                b'"' => break,
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        let quoted = self.text.get(start..self.at).ok_or(Fault::NotJson)?;
        serde_json::from_str(quoted).map_err(|_| Fault::NotJson)
    }

    fn number(&mut self, at: Position) -> Result<(), Fault> {
        let text =
            self.run(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'));
        let number = scalar::json_number(text).ok_or(Fault::NotJson)?;
        let number = number.unwrap_or_else(|why| {
            self.builder.fault(at, format!("{text}: {why}"));
            Value::Null
        });
        Ok(self.builder.scalar(number, at, 0)?)
    }

    fn word(&mut self, at: Position) -> Result<(), Fault> {
        let value = match self.run(|b| b.is_ascii_alphabetic()) {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "null" => Value::Null,
            _ => return Err(Fault::NotJson),
        };
        Ok(self.builder.scalar(value, at, 0)?)
    }

    /// The bytes that come next and belong together.
    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> &'t str {
        let start = self.at;
        while self.peek().is_some_and(&belongs) {
            self.at += 1;
        }
        self.text.get(start..self.at).unwrap_or_default()
    }
}
