//! From words to a tree, by precedence. Names and the number of arguments are checked here, so that a template with a wrong
//! condition is refused when it is applied and not in the middle of a release.

use super::functions::{self, Function};
use super::lexer::{Kind, Token, tokens};
use super::{Fault, LONGEST, Value};

/// How deep a tree may be; it bounds the stack of whoever walks it.
const DEEPEST: u16 = 64;

/// One node and the byte it comes from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: usize,
    depth: u16,
    pub(super) kind: NodeKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum NodeKind {
    Literal(Value),
    /// `result`, or a name bound by `let`.
    Name(String),
    /// `#`: the element that a predicate looks at.
    Element,
    List(Vec<Node>),
    Not(Box<Node>),
    Negative(Box<Node>),
    Binary(Operator, Box<Node>, Box<Node>),
    Choice(Box<Node>, Box<Node>, Box<Node>),
    /// `value[index]`; with `?.[` nil stays nil.
    Index {
        value: Box<Node>,
        index: Box<Node>,
        lenient: bool,
    },
    Slice(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    Field {
        value: Box<Node>,
        name: String,
        lenient: bool,
    },
    Call(Function, Vec<Node>),
    Let(String, Box<Node>, Box<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Different,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    Range,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    Otherwise,
}

/// How strongly an operator binds, and its meaning.
const OPERATORS: [(&str, u8, Operator); 25] = [
    ("||", 10, Operator::Or),
    ("or", 10, Operator::Or),
    ("&&", 15, Operator::And),
    ("and", 15, Operator::And),
    ("==", 20, Operator::Equal),
    ("!=", 20, Operator::Different),
    ("<=", 20, Operator::LessOrEqual),
    ("<", 20, Operator::Less),
    (">=", 20, Operator::GreaterOrEqual),
    (">", 20, Operator::Greater),
    ("in", 20, Operator::In),
    ("not", 20, Operator::NotIn),
    ("contains", 20, Operator::Contains),
    ("startsWith", 20, Operator::StartsWith),
    ("endsWith", 20, Operator::EndsWith),
    ("matches", 20, Operator::Matches),
    ("..", 25, Operator::Range),
    ("+", 30, Operator::Add),
    ("-", 30, Operator::Subtract),
    ("*", 60, Operator::Multiply),
    ("/", 60, Operator::Divide),
    ("%", 60, Operator::Remainder),
    ("^", 100, Operator::Power),
    ("**", 100, Operator::Power),
    ("??", 120, Operator::Otherwise),
];
const NOT_BINDS: u8 = 50;
const SIGN_BINDS: u8 = 90;

pub(super) fn parse(source: &str) -> Result<Node, Fault> {
    if source.len() > LONGEST {
        let why = format!("the condition is longer than {LONGEST} bytes");
        return Err(Fault::new(0, why));
    }
    let mut parser = Parser {
        tokens: tokens(source)?,
        next: 0,
        depth: 0,
        predicates: 0,
        names: vec!["result".to_owned()],
    };
    let root = parser.program()?;
    match parser.peek().kind {
        Kind::End => Ok(root),
        _ => Err(parser.unexpected("an operator or the end")),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: u16,
    /// How many predicates are open: `#` has a meaning only in one.
    predicates: u16,
    names: Vec<String>,
}

const END: Token = Token {
    at: 0,
    kind: Kind::End,
};

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens
            .get(self.next)
            .or(self.tokens.last())
            .unwrap_or(&END)
    }

    fn advance(&mut self) -> Token {
        let token = self.peek().clone();
        self.next += 1;
        token
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek().kind, Kind::Sign(found) if found == sign)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(&self.peek().kind, Kind::Name(found) if found == word)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is_sign(sign);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), Fault> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(self.unexpected(&format!("{sign:?}")))
        }
    }

    fn unexpected(&self, wanted: &str) -> Fault {
        let token = self.peek();
        Fault::new(token.at, format!("{wanted} is expected here"))
    }

    /// A node over others, as long as the tree does not get too deep.
    fn node(&self, at: usize, kind: NodeKind, below: &[u16]) -> Result<Node, Fault> {
        let depth = below.iter().max().map_or(0, |deepest| deepest + 1);
        if depth > DEEPEST {
            return Err(too_deep(at));
        }
        Ok(Node { at, depth, kind })
    }

    /// `let NAME = VALUE;`, and the expression.
    fn program(&mut self) -> Result<Node, Fault> {
        if !self.is_word("let") {
            return self.expression(0);
        }
        let at = self.advance().at;
        let Kind::Name(name) = self.peek().kind.clone() else {
            return Err(self.unexpected("a name"));
        };
        self.next += 1;
        self.expect("=")?;
        let value = self.nested(at, |parser| parser.expression(0))?;
        self.expect(";")?;
        self.names.push(name.clone());
        let body = self.nested(at, Self::program)?;
        self.names.pop();
        let below = [value.depth, body.depth];
        self.node(at, NodeKind::Let(name, value.into(), body.into()), &below)
    }

    /// Goes one deeper, but not too deep.
    fn nested<T>(
        &mut self,
        at: usize,
        read: impl FnOnce(&mut Self) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.depth >= DEEPEST {
            return Err(too_deep(at));
        }
        self.depth += 1;
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn expression(&mut self, least: u8) -> Result<Node, Fault> {
        let at = self.peek().at;
        let mut left = self.nested(at, Self::prefixed)?;
        while let Some((binds, operator)) = self.operator().filter(|(binds, _)| *binds >= least) {
            let at = self.advance().at;
            if operator == Operator::NotIn {
                if !self.is_word("in") {
                    return Err(self.unexpected("`in` after `not`"));
                }
                self.next += 1;
            }
            // Powers and defaults bind from the right, everything else from the left.
            let from_right = matches!(operator, Operator::Power | Operator::Otherwise);
            let least = if from_right { binds } else { binds + 1 };
            let right = self.nested(at, |parser| parser.expression(least))?;
            let below = [left.depth, right.depth];
            let kind = NodeKind::Binary(operator, left.into(), right.into());
            left = self.node(at, kind, &below)?;
        }
        if least == 0 {
            left = self.piped(left)?;
            left = self.choice(left)?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(u8, Operator)> {
        let word = match &self.peek().kind {
            Kind::Sign(sign) => *sign,
            Kind::Name(name) => name.as_str(),
            _ => return None,
        };
        let (_, binds, operator) = OPERATORS.iter().find(|(text, ..)| *text == word)?;
        Some((*binds, *operator))
    }

    /// `result | filter(# > 1) | len()`.
    fn piped(&mut self, mut value: Node) -> Result<Node, Fault> {
        while self.take("|") {
            let at = self.peek().at;
            let Kind::Name(name) = self.advance().kind else {
                return Err(Fault::new(at, "a function is expected here"));
            };
            value = self.call(at, &name, Some(value))?;
        }
        Ok(value)
    }

    fn choice(&mut self, condition: Node) -> Result<Node, Fault> {
        let at = self.peek().at;
        if !self.take("?") {
            return Ok(condition);
        }
        let yes = self.nested(at, |parser| parser.expression(0))?;
        self.expect(":")?;
        let no = self.nested(at, |parser| parser.expression(0))?;
        let below = [condition.depth, yes.depth, no.depth];
        let kind = NodeKind::Choice(condition.into(), yes.into(), no.into());
        self.node(at, kind, &below)
    }

    fn prefixed(&mut self) -> Result<Node, Fault> {
        let at = self.peek().at;
        if self.take("!") || self.is_word("not") {
            self.next += usize::from(self.is_word("not"));
            let inner = self.nested(at, |parser| parser.expression(NOT_BINDS))?;
            let below = [inner.depth];
            return self.node(at, NodeKind::Not(inner.into()), &below);
        }
        if self.take("+") {
            return self.nested(at, |parser| parser.expression(SIGN_BINDS));
        }
        if self.take("-") {
            let inner = self.nested(at, |parser| parser.expression(SIGN_BINDS))?;
            let below = [inner.depth];
            return self.node(at, NodeKind::Negative(inner.into()), &below);
        }
        let value = self.primary()?;
        self.followed(value)
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let token = self.advance();
        let at = token.at;
        let kind = match token.kind {
            Kind::Integer(number) => NodeKind::Literal(Value::Integer(number)),
            Kind::Float(number) => NodeKind::Literal(Value::Float(number)),
            Kind::Text(text) => NodeKind::Literal(Value::Text(text.into())),
            Kind::Name(name) => return self.named(at, &name),
            Kind::Sign("#") if self.predicates > 0 => NodeKind::Element,
            Kind::Sign("#") => return Err(Fault::new(at, "`#` has a meaning only in a predicate")),
            // `.name` in a predicate is `#.name`.
            Kind::Sign(".") if self.predicates > 0 => {
                self.next -= 1;
                NodeKind::Element
            }
            Kind::Sign("(") => {
                let inner = self.nested(at, |parser| parser.expression(0))?;
                self.expect(")")?;
                return Ok(inner);
            }
            Kind::Sign("[") => {
                let items = self.items("]", at)?;
                let below: Vec<_> = items.iter().map(|n| n.depth).collect();
                return self.node(at, NodeKind::List(items), &below);
            }
            Kind::End => return Err(Fault::new(at, "the condition ends too early")),
            Kind::Sign(sign) => {
                return Err(Fault::new(
                    at,
                    format!("a value is expected before {sign:?}"),
                ));
            }
        };
        self.node(at, kind, &[])
    }

    fn named(&mut self, at: usize, name: &str) -> Result<Node, Fault> {
        let literal = match name {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            "nil" => Value::Nil,
            _ if self.is_sign("(") => return self.call(at, name, None),
            _ if self.names.iter().any(|known| known == name) => {
                return self.node(at, NodeKind::Name(name.to_owned()), &[]);
            }
            _ => {
                let why = format!("there is no {name:?} here: the measured value is `result`");
                return Err(Fault::new(at, why));
            }
        };
        self.node(at, NodeKind::Literal(literal), &[])
    }

    fn items(&mut self, close: &str, at: usize) -> Result<Vec<Node>, Fault> {
        let mut items = Vec::new();
        while !self.take(close) {
            items.push(self.nested(at, |parser| parser.expression(0))?);
            if !self.take(",") && !self.is_sign(close) {
                return Err(self.unexpected(&format!("\",\" or {close:?}")));
            }
        }
        Ok(items)
    }

    fn call(&mut self, at: usize, name: &str, piped: Option<Node>) -> Result<Node, Fault> {
        let Some(function) = functions::find(name) else {
            return Err(Fault::new(at, format!("there is no function {name:?}")));
        };
        self.expect("(")?;
        let mut args: Vec<Node> = piped.into_iter().collect();
        while !self.take(")") {
            let is_predicate = function.takes_predicate && args.len() == 1;
            args.push(if is_predicate {
                self.predicate(at)?
            } else {
                self.nested(at, |parser| parser.expression(0))?
            });
            if !self.take(",") && !self.is_sign(")") {
                return Err(self.unexpected("\",\" or \")\""));
            }
        }
        if !function.arguments.contains(&args.len()) {
            let (least, most) = (function.arguments.start(), function.arguments.end());
            let wanted = if least == most {
                format!("{least}")
            } else {
                format!("{least} to {most}")
            };
            let why = format!("{name} takes {wanted} arguments, not {}", args.len());
            return Err(Fault::new(at, why));
        }
        let below: Vec<_> = args.iter().map(|n| n.depth).collect();
        self.node(at, NodeKind::Call(function, args), &below)
    }

    /// `# > 0.9` or `{# > 0.9}`.
    fn predicate(&mut self, at: usize) -> Result<Node, Fault> {
        let braces = self.take("{");
        self.predicates += 1;
        let body = self.nested(at, Self::program);
        self.predicates -= 1;
        let body = body?;
        if braces {
            self.expect("}")?;
        }
        Ok(body)
    }

    /// Indexes, slices and fields behind a value.
    fn followed(&mut self, mut value: Node) -> Result<Node, Fault> {
        loop {
            let at = self.peek().at;
            let lenient = self.take("?.");
            if self.take("[") {
                value = self.indexed(at, value, lenient)?;
            } else if lenient || self.take(".") {
                let Kind::Name(name) = self.peek().kind.clone() else {
                    return Err(self.unexpected("the name of a field"));
                };
                self.next += 1;
                let below = [value.depth];
                let value_node = value.into();
                let kind = NodeKind::Field {
                    value: value_node,
                    name,
                    lenient,
                };
                value = self.node(at, kind, &below)?;
            } else {
                return Ok(value);
            }
        }
    }

    fn indexed(&mut self, at: usize, value: Node, lenient: bool) -> Result<Node, Fault> {
        let bound = |parser: &mut Self| -> Result<Option<Node>, Fault> {
            if parser.is_sign(":") || parser.is_sign("]") {
                return Ok(None);
            }
            parser.nested(at, |parser| parser.expression(0)).map(Some)
        };
        let first = bound(self)?;
        let mut below = vec![value.depth, first.as_ref().map_or(0, |n| n.depth)];
        let kind = if self.take(":") {
            let last = bound(self)?;
            below.push(last.as_ref().map_or(0, |n| n.depth));
            NodeKind::Slice(value.into(), first.map(Box::new), last.map(Box::new))
        } else {
            let index = first.ok_or_else(|| self.unexpected("an index"))?.into();
            NodeKind::Index {
                value: value.into(),
                index,
                lenient,
            }
        };
        self.expect("]")?;
        self.node(at, kind, &below)
    }
}

fn too_deep(at: usize) -> Fault {
    Fault::new(at, "the condition is nested too deep")
}

impl Node {
    /// Whether a function of one of these names is called anywhere, or `??` is used.
    pub(super) fn asks(&self, names: &[&str]) -> bool {
        let any = |nodes: &[&Node]| nodes.iter().any(|node| node.asks(names));
        match &self.kind {
            NodeKind::Literal(_) | NodeKind::Name(_) | NodeKind::Element => false,
            NodeKind::List(items) => items.iter().any(|item| item.asks(names)),
            NodeKind::Not(inner) | NodeKind::Negative(inner) => inner.asks(names),
            NodeKind::Binary(operator, left, right) => {
                *operator == Operator::Otherwise || any(&[left, right])
            }
            NodeKind::Choice(condition, yes, no) => any(&[condition, yes, no]),
            NodeKind::Index { value, index, .. } => any(&[value, index]),
            NodeKind::Slice(value, first, last) => {
                let bounds = first.iter().chain(last).any(|bound| bound.asks(names));
                bounds || value.asks(names)
            }
            NodeKind::Field { value, .. } => value.asks(names),
            NodeKind::Call(function, args) => {
                names.contains(&function.name) || args.iter().any(|arg| arg.asks(names))
            }
            NodeKind::Let(_, value, body) => any(&[value, body]),
        }
    }
}
