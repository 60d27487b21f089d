//! The reader of YAML: events of the parser become events of the builder.

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};
use serde_json::Value;

use super::Position;
use super::scalar;
use super::tree::{Builder, Parsed, Stop};

/// Reads every document. After a fault of syntax the reading goes on with the next `---`.
pub(super) fn read(text: &str) -> Parsed {
    let mut builder = Builder::default();
    let (mut rest, mut skipped_lines) = (text, 0);
    while let Err(fault) = part(rest, skipped_lines, &mut builder) {
        let (Fault::Syntax(stop) | Fault::TooMuch(stop)) = &fault;
        builder.fault(stop.0, stop.1.clone());
        let line_in_rest = stop.0.line.saturating_sub(skipped_lines);
        match (next_document(rest, line_in_rest), fault) {
            (Some((lines, next)), Fault::Syntax(_)) => {
                skipped_lines += lines;
                rest = next;
            }
            _ => break,
        }
    }
    builder.parsed
}

enum Fault {
    /// The text is not YAML.
    Syntax(Stop),
    /// It is, and is not read on.
    TooMuch(Stop),
}

fn part(text: &str, skipped_lines: u32, builder: &mut Builder) -> Result<(), Fault> {
    let mut parser = Parser::new_from_str(text);
    let place = |marker: &Marker| Position {
        line: number(marker.line()).saturating_add(skipped_lines),
        column: number(marker.col()).saturating_add(1),
    };
    while let Some(next) = parser.next_event() {
        let (event, Span { start, .. }) =
            next.map_err(|error| Fault::Syntax((place(error.marker()), explain(error.info()))))?;
        take(event, place(&start), builder).map_err(Fault::TooMuch)?;
    }
    Ok(())
}

fn take(event: Event<'_>, at: Position, builder: &mut Builder) -> Result<(), Stop> {
    match event {
        Event::DocumentStart(_) => builder.next_document(),
        Event::Alias(anchor) => builder.alias(anchor, at)?,
        Event::SequenceStart(anchor, tag) => {
            known_tag(tag.as_deref(), &["seq"], at, builder);
            builder.open_list(at, anchor)?;
        }
        Event::MappingStart(anchor, tag) => {
            known_tag(tag.as_deref(), &["map"], at, builder);
            builder.open_map(at, anchor)?;
        }
        Event::SequenceEnd | Event::MappingEnd => builder.close()?,
        Event::Scalar(text, style, anchor, tag) => {
            let plain = style == ScalarStyle::Plain;
            if builder.wants_key() {
                builder.key(&text, at, plain && text == "<<")?;
            } else {
                let value = value(&text, plain, tag.as_deref(), at, builder);
                builder.scalar(value, at, anchor)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn value(text: &str, plain: bool, tag: Option<&Tag>, at: Position, builder: &mut Builder) -> Value {
    let tag_word = tag.map(|tag| tag.suffix.as_str());
    known_tag(tag, &["str", "int", "float", "bool", "null"], at, builder);
    // A tag overrides what the word looks like: `!!str 80` is text, `!!int "80"` is a number.
    let read = match tag_word {
        Some("int" | "float" | "bool" | "null") => scalar::plain(text),
        None if plain => scalar::plain(text),
        _ => Ok(Value::String(text.to_owned())),
    };
    read.unwrap_or_else(|why| {
        builder.fault(at, format!("{text}: {why}"));
        Value::Null
    })
}

fn known_tag(tag: Option<&Tag>, known: &[&str], at: Position, builder: &mut Builder) {
    let Some(tag) = tag else { return };
    let fits = tag.is_yaml_core_schema() && known.contains(&tag.suffix.as_str());
    let non_specific = tag.handle.is_empty() && tag.suffix == "!";
    if !fits && !non_specific {
        let message = format!("the tag {}{} is not supported", tag.handle, tag.suffix);
        builder.fault(at, message);
    }
}

/// The parser's words, with a remedy where the usual cause is known.
fn explain(info: &str) -> String {
    let remedy = if info.contains("tab") {
        "; indent with spaces"
    } else if info.contains("unknown anchor") {
        "; define it with & before its first use"
    } else {
        ""
    };
    format!("not valid YAML: {info}{remedy}")
}

/// The first document that begins behind a line: how many lines come before it, and its text.
fn next_document(text: &str, line: u32) -> Option<(u32, &str)> {
    let mut offset = 0;
    for (index, content) in text.split_inclusive('\n').enumerate() {
        let behind = number(index) >= line;
        let begins = content.trim_end() == "---" || content.starts_with("--- ");
        if behind && begins {
            return Some((number(index), text.get(offset..)?));
        }
        offset += content.len();
    }
    None
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
