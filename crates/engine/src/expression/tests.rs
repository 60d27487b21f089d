use super::*;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;

fn shown(source: &str, result: &Value) -> String {
    match Expression::parse(source).and_then(|e| e.evaluate(result)) {
        Ok(value) => value.to_string(),
        Err(why) => format!("error {why}"),
    }
}

fn check(rows: &[(&str, Value)], expected: Expect) {
    let rows = rows
        .iter()
        .map(|(source, result)| format!("{source} => {}", shown(source, result)));
    expected.assert_eq(&rows.collect::<Vec<_>>().join("\n"));
}

fn list(numbers: &[f64]) -> Value {
    Value::list_of(numbers)
}

#[test]
fn what_public_templates_write() {
    let document = Value::from_json(&json!({
        "ok": true, "successPercent": 0.97, "data": {"measurement": "passed", "n": 3},
        "items": [{"name": "a", "up": 1}, {"name": "b", "up": 0}],
    }));
    let doc = || document.clone();
    check(
        &[
            ("result[0] < 0.95 && !isNaN(result[0])", list(&[0.9])),
            ("result[0] < 0.95 && !isNaN(result[0])", list(&[f64::NAN])),
            ("len(result) == 0 || result[0] >= 0.95", list(&[])),
            ("all(result, # > 0.9)", list(&[0.95, 0.91])),
            ("all(result, {# > 0.9})", list(&[0.95, 0.8])),
            (
                "any(result, {isNaN(#) or # >= 0.5})",
                list(&[0.1, f64::NAN]),
            ),
            ("len(filter(result, # > 1)) <= 1", list(&[1.0, 2.0, 3.0])),
            ("map(result, # * 100)[0] == 50.0", list(&[0.5])),
            ("default(result, 0) < 0.05", Value::Float(f64::NAN)),
            (
                "isNil(result) || isInf(result)",
                Value::Float(f64::INFINITY),
            ),
            ("asInt(result) == 200", Value::Text("200".into())),
            ("asFloat(result) <= 0.05", Value::Text("0.01".into())),
            ("result == 'true'", Value::Text("true".into())),
            ("result.ok && result.successPercent >= 0.95", doc()),
            ("result.data.measurement in ['passed', 'skipped']", doc()),
            ("result.data.missing?.deeper ?? 7", doc()),
            ("count(result.items, .up == 1) / len(result.items)", doc()),
            (
                "result.items | filter(#.up == 0) | map(.name) | first()",
                doc(),
            ),
            ("result > 10 ? 'high' : 'low'", Value::Integer(3)),
            ("not (result in 1..3) and -2 ** 2 == -4", Value::Integer(4)),
            ("let p = mean(result); p > 1 and p < 3", list(&[1.0, 3.0])),
            ("result matches '^v[0-9]+$'", Value::Text("v12".into())),
            ("sum(result) / max(result)", list(&[1.0, 2.0, 1.0])),
        ],
        expect![[r#"
            result[0] < 0.95 && !isNaN(result[0]) => true
            result[0] < 0.95 && !isNaN(result[0]) => false
            len(result) == 0 || result[0] >= 0.95 => true
            all(result, # > 0.9) => true
            all(result, {# > 0.9}) => false
            any(result, {isNaN(#) or # >= 0.5}) => true
            len(filter(result, # > 1)) <= 1 => false
            map(result, # * 100)[0] == 50.0 => true
            default(result, 0) < 0.05 => true
            isNil(result) || isInf(result) => true
            asInt(result) == 200 => true
            asFloat(result) <= 0.05 => true
            result == 'true' => true
            result.ok && result.successPercent >= 0.95 => true
            result.data.measurement in ['passed', 'skipped'] => true
            result.data.missing?.deeper ?? 7 => 7
            count(result.items, .up == 1) / len(result.items) => 0.5
            result.items | filter(#.up == 0) | map(.name) | first() => "b"
            result > 10 ? 'high' : 'low' => "low"
            not (result in 1..3) and -2 ** 2 == -4 => true
            let p = mean(result); p > 1 and p < 3 => true
            result matches '^v[0-9]+$' => true
            sum(result) / max(result) => 2"#]],
    );
}

#[test]
fn errors_point_at_their_place() {
    check(
        &[
            ("result[0] < 1", list(&[])),
            ("result[3] < 1", list(&[1.0])),
            ("reslut < 1", list(&[])),
            ("result <", list(&[])),
            ("result < 0.95 &", list(&[])),
            ("result = 1", list(&[])),
            ("nothing(result)", list(&[])),
            ("len(result, 2)", list(&[])),
            ("# > 1", list(&[])),
            ("result > 1 && result + 1", Value::Integer(2)),
            ("result < 'x'", Value::Integer(2)),
            ("result[0].deep.er", list(&[1.0])),
            ("result % 0 == 1", Value::Integer(2)),
            ("9223372036854775807 + 1 > 0", Value::Nil),
            ("asFloat(result) > 1", Value::Nil),
            ("all(result, # + 1)", list(&[1.0])),
            ("(((result", Value::Nil),
            ("'open", Value::Nil),
            ("1..9999999999 == 3", Value::Nil),
            ("all(1..999, all(1..999, all(1..999, true)))", Value::Nil),
            ("'é' == € ", Value::Nil),
        ],
        expect![[r##"
            result[0] < 1 => error at column 7 ("[0] < 1"): there is no element 0: the list has 0
            result[3] < 1 => error at column 7 ("[3] < 1"): there is no element 3: the list has 1
            reslut < 1 => error at column 1 ("reslut < 1"): there is no "reslut" here: the measured value is `result`
            result < => error at its end: the condition ends too early
            result < 0.95 & => error at column 15 ("&"): '&' has no meaning here
            result = 1 => error at column 8 ("= 1"): an operator or the end is expected here
            nothing(result) => error at column 1 ("nothing(result)"): there is no function "nothing"
            len(result, 2) => error at column 1 ("len(result, 2)"): len takes 1 arguments, not 2
            # > 1 => error at column 1 ("# > 1"): `#` has a meaning only in a predicate
            result > 1 && result + 1 => error at column 22 ("+ 1"): is 3, not true or false
            result < 'x' => error at column 8 ("< 'x'"): a whole number and a text cannot be compared
            result[0].deep.er => error at column 10 (".deep.er"): a number has no element "deep"
            result % 0 == 1 => error at column 8 ("% 0 == 1"): a division by zero
            9223372036854775807 + 1 > 0 => error at column 21 ("+ 1 > 0"): the number is too large
            asFloat(result) > 1 => error at column 1 ("asFloat(result) > 1"): nil is no number
            all(result, # + 1) => error at column 15 ("+ 1)"): the predicate of all gives 2, not true or false
            (((result => error at its end: ")" is expected here
            'open => error at column 1 ("'open"): a text that does not end
            1..9999999999 == 3 => error at column 2 ("..9999999999 == 3"): the condition takes more than 1000000 steps
            all(1..999, all(1..999, all(1..999, true))) => error at column 30 ("..999, true)))"): the condition takes more than 1000000 steps
            'é' == €  => error at column 8 ("€ "): '€' has no meaning here"##]],
    );
}

#[test]
fn deep_and_long_texts_are_refused() {
    let sources = [
        "(".repeat(4000),
        "!".repeat(4000),
        "[".repeat(4000),
        format!("1{}", "+1".repeat(2000)),
        format!("result{}", "[0]".repeat(1000)),
        "1 ? ".repeat(1000),
        "let a = 1;".repeat(400),
        "1 | ".repeat(1000),
        "len(".repeat(1000),
        " ".repeat(LONGEST + 1),
    ];
    for source in sources {
        assert!(Expression::parse(&source).is_err(), "{source}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever is written, there is an answer: words of the language in any order.
    #[test]
    fn no_text_ends_the_process(words in proptest::collection::vec(0_usize..WORDS.len(), 0..24)) {
        let source: Vec<_> = words.iter().map(|word| WORDS[*word]).collect();
        let source = source.join(" ");
        let _ = Expression::parse(&source).and_then(|e| e.evaluate(&list(&[0.5, f64::NAN])));
    }

    #[test]
    fn no_characters_end_the_process(source in "\\PC{0,40}") {
        let _ = Expression::parse(&source).and_then(|e| e.evaluate(&Value::Nil));
    }
}

const WORDS: [&str; 44] = [
    "result",
    "#",
    "0",
    "1",
    "-1",
    "0.5",
    "9223372036854775807",
    "'a'",
    "nil",
    "true",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    "+",
    "-",
    "*",
    "/",
    "%",
    "^",
    "**",
    "..",
    "<",
    ">=",
    "==",
    "!=",
    "&&",
    "or",
    "!",
    "not",
    "in",
    "|",
    "?",
    ":",
    "??",
    "?.",
    ".",
    ",",
    "all(",
    "filter(",
    "let a =",
    ";",
];
