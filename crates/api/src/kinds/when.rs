//! Ages, in the words of kubectl.

use jiff::Timestamp;
use serde_json::Value;

/// The time from `since` to `now` as kubectl prints it: `5s`, `3m20s`, `7h`, `12d`, `2y40d`.
pub fn human_age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - since.as_second();
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let (days, years) = (hours / 24, hours / 24 / 365);
    match seconds {
        // Two clocks may differ a little: a time that is just ahead is now.
        ..=-2 => "<invalid>".to_owned(),
        -1 => "0s".to_owned(),
        0..120 => format!("{seconds}s"),
        _ if minutes < 10 => two(minutes, 'm', seconds % 60, 's'),
        _ if minutes < 180 => format!("{minutes}m"),
        _ if hours < 8 => two(hours, 'h', minutes % 60, 'm'),
        _ if hours < 48 => format!("{hours}h"),
        _ if days < 8 => two(days, 'd', hours % 24, 'h'),
        _ if days < 365 * 2 => format!("{days}d"),
        _ if days < 365 * 8 => two(years, 'y', days % 365, 'd'),
        _ => format!("{years}y"),
    }
}

fn two(big: i64, unit: char, small: i64, small_unit: char) -> String {
    if small == 0 {
        format!("{big}{unit}")
    } else {
        format!("{big}{unit}{small}{small_unit}")
    }
}

/// The age of the time that stands at a JSON pointer; `<unknown>` when there is none.
pub(super) fn since(object: &Value, pointer: &str, now: Timestamp) -> String {
    match time(object, pointer) {
        Some(time) => human_age(time, now),
        None => "<unknown>".to_owned(),
    }
}

/// The time that stands at a JSON pointer.
pub(super) fn time(object: &Value, pointer: &str) -> Option<Timestamp> {
    object.pointer(pointer)?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn ages_read_as_in_kubectl() {
        let now = Timestamp::from_second(1_000_000_000).unwrap();
        const DAY: i64 = 86_400;
        let seconds = [
            -5,
            -1,
            0,
            119,
            120,
            200,
            600,
            10_000,
            10_800,
            11_000,
            30_000,
            DAY * 2,
            DAY * 3 + 7200,
            DAY * 9,
            DAY * 365 * 2,
            DAY * 800,
            DAY * 365 * 9,
        ];
        let shown: Vec<_> = seconds
            .iter()
            .map(|s| human_age(Timestamp::from_second(now.as_second() - s).unwrap(), now))
            .collect();
        expect!["<invalid> 0s 0s 119s 2m 3m20s 10m 166m 3h 3h3m 8h 2d 3d2h 9d 2y 2y70d 9y"]
            .assert_eq(&shown.join(" "));
    }
}
