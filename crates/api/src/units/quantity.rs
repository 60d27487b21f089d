//! Amounts of resources: `500m`, `1.5`, `64Mi`, `2e3`.

/// An amount that is written wrongly, in the words of a cluster.
pub const EXPECTED: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

/// In thousand-millionths, the smallest that can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

const NANO: i128 = 1_000_000_000;
/// Digits beyond these are more than any machine has.
const MOST_DIGITS: usize = 24;

impl Quantity {
    /// Reads an amount; `None` when it is written wrongly. What is smaller than a thousand-millionth is rounded up, and what
    /// is too large to count is the largest amount.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '+' | '-')));
        let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
        let (negative, digits) = match number.strip_prefix('-') {
            Some(digits) => (true, digits),
            None => (false, number.strip_prefix('+').unwrap_or(number)),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !plain(whole) || !plain(fraction) {
            return None;
        }
        let scale = scale(suffix)?;
        let whole = whole.trim_start_matches('0');
        if whole.len() > MOST_DIGITS {
            return Some(Self(if negative { i128::MIN } else { i128::MAX }));
        }
        let amount = scale.of(whole, fraction);
        Some(Self(if negative {
            amount.saturating_neg()
        } else {
            amount
        }))
    }

    /// Whether it is below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

/// What a number is multiplied by: a power of two, or of ten.
enum Scale {
    Binary(u32),
    Decimal(i32),
}

fn scale(suffix: &str) -> Option<Scale> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(step) = binary.iter().zip(1..).find(|(name, _)| **name == suffix) {
        return Some(Scale::Binary(10 * step.1));
    }
    let decimal = [
        ("n", -9),
        ("u", -6),
        ("m", -3),
        ("", 0),
        ("k", 3),
        ("M", 6),
        ("G", 9),
        ("T", 12),
        ("P", 15),
        ("E", 18),
    ];
    if let Some((_, power)) = decimal.iter().find(|(name, _)| *name == suffix) {
        return Some(Scale::Decimal(*power));
    }
    let power = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
    Some(Scale::Decimal(power.clamp(-40, 40)))
}

impl Scale {
    /// The amount that digits before and after the point stand for.
    fn of(&self, whole: &str, fraction: &str) -> i128 {
        let fraction: String = fraction.chars().take(MOST_DIGITS).collect();
        let digits = |text: &str| text.parse::<i128>().unwrap_or(0);
        match self {
            Self::Binary(bits) => {
                let factor = NANO << bits;
                let parts = 10_i128.saturating_pow(fraction.len().try_into().unwrap_or(0));
                let below = digits(&fraction).saturating_mul(factor);
                let below = below.div_euclid(parts) + i128::from(below.rem_euclid(parts) > 0);
                digits(whole).saturating_mul(factor).saturating_add(below)
            }
            Self::Decimal(power) => {
                let all = digits(&format!("{whole}{fraction}"));
                let fraction = i32::try_from(fraction.len()).unwrap_or(0);
                let power = power + 9 - fraction;
                let factor = 10_i128.saturating_pow(power.unsigned_abs());
                if power >= 0 {
                    all.saturating_mul(factor)
                } else {
                    all / factor + i128::from(all % factor > 0)
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_compare() {
        let read = |text: &str| Quantity::parse(text).unwrap();
        let equal = [
            ("1", "1000m"),
            ("1.5", "1500m"),
            ("1Ki", "1024"),
            ("1.5Gi", "1536Mi"),
            ("2e3", "2k"),
            ("1E3", "1000"),
            ("+5", "5"),
            (".5", "500m"),
            ("0", "-0"),
            ("1n", "0.5n"),
        ];
        for (a, b) in equal {
            assert_eq!(read(a), read(b), "{a} {b}");
        }
        let rising = [
            "-1", "0", "1n", "1m", "1", "1k", "1Ki", "1M", "1Gi", "1E", "1e30",
        ];
        for pair in rising.windows(2) {
            assert!(read(pair[0]) < read(pair[1]), "{pair:?}");
        }
        for wrong in [
            "", "m", "1 ", "1KB", "1mi", "--1", "1.2.3", "e3", "abc", "1e", "0x1", "1Mib",
        ] {
            assert_eq!(Quantity::parse(wrong), None, "{wrong}");
        }
        assert!(read("9".repeat(99).as_str()) > read("1E"));
    }
}
