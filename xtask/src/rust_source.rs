//! Just enough reading of Rust to tell code from comments, literals and tests.
//!
//! Absent on purpose: a parser. Only what rustfmt has formatted and rustc has accepted is ever read.

/// The source with the inside of comments, strings and characters blanked; every line keeps its number.
pub(crate) fn mask(source: &str) -> String {
    let mut lexer = Lexer {
        chars: source.chars().collect(),
        at: 0,
        out: String::with_capacity(source.len()),
    };
    while lexer.step() {}
    lexer.out
}

/// The lines of code that are not test code, each with its number from 1; `masked` comes from [`mask`]. An item under
/// `#[cfg(test)]` is test code as a whole.
pub(crate) fn production_lines(masked: &str) -> Vec<(usize, &str)> {
    let mut kept = Vec::new();
    let mut skipping: Option<TestItem> = None;
    for (index, line) in masked.lines().enumerate() {
        if skipping.is_none() && line.trim_start().starts_with("#[cfg(test)]") {
            skipping = Some(TestItem::default());
        }
        match &mut skipping {
            None => kept.push((index + 1, line)),
            Some(item) => {
                if item.ends_in(line) {
                    skipping = None;
                }
            }
        }
    }
    kept
}

/// How far into an item under `#[cfg(test)]` the lines so far have come.
#[derive(Default)]
struct TestItem {
    depth: usize,
    /// Parentheses and brackets, so that the `;` of an array type does not end the item.
    nested: usize,
}

impl TestItem {
    /// Whether the item, an item without a body included, ends in this line.
    fn ends_in(&mut self, line: &str) -> bool {
        for c in line.chars() {
            match c {
                '{' => self.depth += 1,
                '}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return true;
                    }
                }
                '(' | '[' => self.nested += 1,
                ')' | ']' => self.nested = self.nested.saturating_sub(1),
                ';' if self.depth == 0 && self.nested == 0 => return true,
                _ => {}
            }
        }
        false
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    out: String,
}

impl Lexer {
    /// Reads one comment, one literal or one other character; `false` at the end.
    fn step(&mut self) -> bool {
        match (self.peek(0), self.peek(1)) {
            (None, _) => return false,
            (Some('/'), Some('/')) => self.blank_while(|rest| rest.first() != Some(&'\n')),
            (Some('/'), Some('*')) => self.block_comment(),
            (Some('"'), _) => self.string(),
            (Some('r'), Some('"' | '#')) if !self.in_identifier() => self.raw_string_or_name(),
            (Some('\''), _) => self.character_or_lifetime(),
            _ => self.copy(),
        }
        true
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn copy(&mut self) {
        if let Some(c) = self.peek(0) {
            self.out.push(c);
            self.at += 1;
        }
    }

    fn blank(&mut self) {
        if let Some(c) = self.peek(0) {
            self.out.push(if c == '\n' { '\n' } else { ' ' });
            self.at += 1;
        }
    }

    fn blank_while(&mut self, goes_on: impl Fn(&[char]) -> bool) {
        while let Some(rest) = self.chars.get(self.at..)
            && !rest.is_empty()
            && goes_on(rest)
        {
            self.blank();
        }
    }

    /// Whether the character before belongs to a name, so that an `r` here starts no raw string; `br` and `cr` do.
    fn in_identifier(&self) -> bool {
        let before = |back: usize| {
            self.at
                .checked_sub(back)
                .and_then(|at| self.chars.get(at))
                .is_some_and(|c| c.is_alphanumeric() || *c == '_')
        };
        let prefixed = self
            .at
            .checked_sub(1)
            .and_then(|at| self.chars.get(at))
            .is_some_and(|c| matches!(c, 'b' | 'c'));
        if prefixed { before(2) } else { before(1) }
    }

    fn block_comment(&mut self) {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => {
                    depth += 1;
                    self.blank();
                }
                (Some('*'), Some('/')) => {
                    depth -= 1;
                    self.blank();
                }
                (None, _) => return,
                _ => {}
            }
            self.blank();
            if depth == 0 {
                return;
            }
        }
    }

    fn string(&mut self) {
        self.copy();
        loop {
            match self.peek(0) {
                Some('\\') => {
                    self.blank();
                    self.blank();
                }
                Some('"') | None => break,
                Some(_) => self.blank(),
            }
        }
        self.copy();
    }

    fn raw_string_or_name(&mut self) {
        self.copy();
        let hashes = (0..).take_while(|n| self.peek(*n) == Some('#')).count();
        if self.peek(hashes) != Some('"') {
            return;
        }
        for _ in 0..=hashes {
            self.copy();
        }
        self.blank_while(|rest| {
            let closes = rest.first() == Some(&'"')
                && rest.iter().skip(1).take_while(|c| **c == '#').count() >= hashes;
            !closes
        });
        for _ in 0..=hashes {
            self.copy();
        }
    }

    fn character_or_lifetime(&mut self) {
        let escaped = self.peek(1) == Some('\\');
        self.copy();
        if escaped {
            self.blank();
            self.blank();
            self.blank_while(|rest| rest.first() != Some(&'\''));
            self.copy();
        } else if self.peek(1) == Some('\'') {
            self.blank();
            self.copy();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_is_left() {
        for (source, masked) in [
            ("a // b", "a     "),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("f(\"x // y\")", "f(\"      \")"),
            ("f(\"x\\\"y\") + 1", "f(\"    \") + 1"),
            ("r#\"a\"b\"# + 1", "r#\"   \"# + 1"),
            ("br\"{\" + 1", "br\" \" + 1"),
            ("r#type + 1", "r#type + 1"),
            ("for_r(\"{\")", "for_r(\" \")"),
            ("'{' + 'a'", "' ' + ' '"),
            ("'\\'' + '\\u{7f}'", "'  ' + '      '"),
            ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
            ("\"a\nb\"", "\" \n \""),
            ("\"never closed", "\"            "),
        ] {
            assert_eq!(mask(source), masked, "{source}");
        }
    }

    #[track_caller]
    fn production(source: &str) -> Vec<usize> {
        production_lines(&mask(source))
            .into_iter()
            .map(|(line, _)| line)
            .collect()
    }

    #[test]
    fn an_item_for_tests_is_left_out_whole() {
        let module =
            "fn a() {}\n#[cfg(test)]\nmod tests {\n    const S: &str = \"}\";\n}\nfn b() {}\n";
        assert_eq!(production(module), [1, 6]);
        let file = "#[cfg(test)]\nmod tests;\nfn b() {}\n";
        assert_eq!(production(file), [3]);
        let function = "#[cfg(test)]\nfn f(x: [u8; 2]) {\n    g(x);\n}\nfn b() {}\n";
        assert_eq!(production(function), [5]);
    }

    #[test]
    fn a_feature_is_no_test() {
        let source = "#[cfg(feature = \"sim\")]\nmod sim {\n}\n";
        assert_eq!(production(source), [1, 2, 3]);
    }
}
