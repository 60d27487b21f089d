//! From text to words.

use super::Fault;

/// One word and the byte where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Integer(i64),
    Float(f64),
    Text(String),
    /// A name or a word such as `and`.
    Name(String),
    /// An operator or a bracket.
    Sign(&'static str),
    End,
}

/// The longer ones first: `**` must not be read as two `*`.
const SIGNS: [&str; 33] = [
    "**", "..", "?.", "??", "&&", "||", "==", "!=", "<=", ">=", "+", "-", "*", "/", "%", "^", "<",
    ">", "!", "?", ":", ".", ",", ";", "(", ")", "[", "]", "{", "}", "|", "#", "=",
];

pub(super) fn tokens(source: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or(' ');
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let second = rest.chars().nth(1).unwrap_or(' ');
        let (kind, length) = if first.is_ascii_digit() || (first == '.' && second.is_ascii_digit())
        {
            number(rest, at)?
        } else if first.is_alphabetic() || first == '_' || first == '$' {
            let length = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$')
                .unwrap_or(rest.len());
            (
                Kind::Name(
                    rest.chars()
                        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
                        .collect(),
                ),
                length,
            )
        } else if matches!(first, '"' | '\'' | '`') {
            text(rest, first, at)?
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
            (Kind::Sign(sign), sign.len())
        } else {
            return Err(Fault::new(at, format!("{first:?} has no meaning here")));
        };
        tokens.push(Token { at, kind });
        at += length;
    }
    tokens.push(Token {
        at: source.len(),
        kind: Kind::End,
    });
    Ok(tokens)
}

/// `1`, `1_000`, `0x1F`, `1.5`, `.5`, `1e-3`. The dots of a range, `1..3`, are not part of a number.
fn number(rest: &str, at: usize) -> Result<(Kind, usize), Fault> {
    let bytes = rest.as_bytes();
    let byte = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let digits = |mut i: usize| {
        while byte(i).is_ascii_digit() || byte(i) == b'_' {
            i += 1;
        }
        i
    };
    let unreadable = |what: &str| Fault::new(at, format!("{what} is no number"));
    if byte(0) == b'0' && matches!(byte(1), b'x' | b'b' | b'o') {
        let radix = match byte(1) {
            b'x' => 16,
            b'o' => 8,
            _ => 2,
        };
        let length = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let length = length.unwrap_or(rest.len());
        let whole = rest.get(..length).unwrap_or_default();
        let digits = whole.get(2..).unwrap_or_default().replace('_', "");
        let number = i64::from_str_radix(&digits, radix).map_err(|_| unreadable(whole))?;
        return Ok((Kind::Integer(number), length));
    }
    let mut end = digits(0);
    let mut is_float = false;
    if byte(end) == b'.' && byte(end + 1).is_ascii_digit() {
        is_float = true;
        end = digits(end + 1);
    }
    let signed = usize::from(matches!(byte(end + 1), b'+' | b'-'));
    if matches!(byte(end), b'e' | b'E') && byte(end + 1 + signed).is_ascii_digit() {
        is_float = true;
        end = digits(end + 1 + signed);
    }
    let whole = rest.get(..end).unwrap_or_default();
    let plain = whole.replace('_', "");
    let float = || plain.parse::<f64>().ok().filter(|n| n.is_finite());
    let kind = if is_float {
        float().map(Kind::Float)
    } else {
        plain.parse().ok().map(Kind::Integer)
    };
    Ok((kind.ok_or_else(|| unreadable(whole))?, end))
}

fn text(rest: &str, quote: char, at: usize) -> Result<(Kind, usize), Fault> {
    let mut out = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            _ if c == quote => return Ok((Kind::Text(out), i + c.len_utf8())),
            '\\' if quote != '`' => match chars.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, c @ ('\\' | '"' | '\'' | '/'))) => out.push(c),
                _ => return Err(Fault::new(at + i, "an escape that is not known")),
            },
            _ => out.push(c),
        }
    }
    Err(Fault::new(at, "a text that does not end"))
}
