//! What an unquoted word of YAML is: the core schema of YAML 1.2.

use serde_json::{Number, Value};

/// A word that stands for something that objects cannot hold, and why.
pub(super) type Unfit = &'static str;

const TOO_LARGE: Unfit = "the number does not fit into 64 bits; put it in quotes if it is text";

/// Reads an unquoted word.
pub(super) fn plain(text: &str) -> Result<Value, Unfit> {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        _ => {}
    }
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Err("objects cannot hold infinite numbers; put it in quotes if it is text");
    }
    if let Some(number) = with_base(text) {
        return number;
    }
    if !unsigned.is_empty() && unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return integer(text);
    }
    if is_float(unsigned) {
        return float(text);
    }
    Ok(Value::String(text.to_owned()))
}

/// `0x1F`, `0o17`, and `0644`, which to kubectl is octal too: a file mode must not change its meaning.
fn with_base(text: &str) -> Option<Result<Value, Unfit>> {
    let (digits, radix) = if let Some(digits) = text.strip_prefix("0x") {
        (digits, 16)
    } else if let Some(digits) = text.strip_prefix("0o") {
        (digits, 8)
    } else {
        (text.strip_prefix('0')?, 8)
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    let number = u64::from_str_radix(digits, radix);
    Some(number.map(Value::from).map_err(|_| TOO_LARGE))
}

fn integer(text: &str) -> Result<Value, Unfit> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let signed = digits.parse::<i64>().map(Value::from);
    signed
        .or_else(|_| digits.parse::<u64>().map(Value::from))
        .map_err(|_| TOO_LARGE)
}

/// Whether text without its sign is `1.5`, `.5`, `1.`, `1e3` or the like.
fn is_float(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent_fits = exponent.is_none_or(|e| {
        let e = e.strip_prefix(['-', '+']).unwrap_or(e);
        !e.is_empty() && digits(e)
    });
    // Digits with neither point nor exponent are an integer.
    let real = mantissa.contains('.') || exponent.is_some();
    real && exponent_fits && digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty())
}

fn float(text: &str) -> Result<Value, Unfit> {
    let number = text.parse().ok().and_then(Number::from_f64);
    number.map(Value::Number).ok_or(TOO_LARGE)
}

/// A number of JSON, which is an integer when it has neither point nor exponent; `None` when it is no number of JSON.
pub(super) fn json_number(text: &str) -> Option<Result<Value, Unfit>> {
    let Ok(number) = serde_json::from_str::<Number>(text) else {
        let too_large = text.parse().is_ok_and(f64::is_infinite);
        return too_large.then_some(Err(TOO_LARGE));
    };
    if !number.is_f64() {
        return Some(Ok(Value::Number(number)));
    }
    // Minus zero is the one whole number that only a float can hold.
    if text != "-0" && !text.contains(['.', 'e', 'E']) {
        return Some(Err(TOO_LARGE));
    }
    // The fast reader of floats may be off by the last bit.
    Some(float(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn words_are_what_the_core_schema_says() {
        let words = "~ null nULL true False no on yes off y 1 -1 +1 0 -0 007 0644 0o17 0x1F 08 9223372036854775807 18446744073709551615 \
            18446744073709551616 -9223372036854775809 1.5 .5 1. . - + 1e3 1e e3 -1.5E-3 1e999 .inf -.INF .nan 1_000 1.2.3 12:30 0x 2026-01-31 1Gi --1 版本";
        let words = words.split(' ').chain([""]);
        let shown: Vec<_> = words
            .map(|w| match plain(w) {
                Ok(value) => format!("{w} = {value}"),
                Err(why) => format!("{w} ! {why}"),
            })
            .collect();
        expect![[r#"
            ~ = null
            null = null
            nULL = "nULL"
            true = true
            False = false
            no = "no"
            on = "on"
            yes = "yes"
            off = "off"
            y = "y"
            1 = 1
            -1 = -1
            +1 = 1
            0 = 0
            -0 = 0
            007 = 7
            0644 = 420
            0o17 = 15
            0x1F = 31
            08 = 8
            9223372036854775807 = 9223372036854775807
            18446744073709551615 = 18446744073709551615
            18446744073709551616 ! the number does not fit into 64 bits; put it in quotes if it is text
            -9223372036854775809 ! the number does not fit into 64 bits; put it in quotes if it is text
            1.5 = 1.5
            .5 = 0.5
            1. = 1.0
            . = "."
            - = "-"
            + = "+"
            1e3 = 1000.0
            1e = "1e"
            e3 = "e3"
            -1.5E-3 = -0.0015
            1e999 ! the number does not fit into 64 bits; put it in quotes if it is text
            .inf ! objects cannot hold infinite numbers; put it in quotes if it is text
            -.INF ! objects cannot hold infinite numbers; put it in quotes if it is text
            .nan ! objects cannot hold infinite numbers; put it in quotes if it is text
            1_000 = "1_000"
            1.2.3 = "1.2.3"
            12:30 = "12:30"
            0x = "0x"
            2026-01-31 = "2026-01-31"
            1Gi = "1Gi"
            --1 = "--1"
            版本 = "版本"
             = null"#]].assert_eq(&shown.join("\n"));
    }
}
