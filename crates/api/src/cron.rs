//! Schedules in the notation of cron: `*/5 9-17 * * MON-FRI`, `@hourly`.
//!
//! Source of the meaning: the manual of cron, as Kubernetes keeps it: when day of month and day of week are both
//! restricted, a day that fits one of them is enough.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// No schedule is looked at further ahead: one that fits no day for so long, such as 30 February, never does.
const YEARS_AHEAD: i64 = 5;

/// When something is due, to the minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    minutes: Field,
    hours: Field,
    days: Field,
    months: Field,
    weekdays: Field,
}

/// The numbers that fit, as bits, and whether all do because of a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    any: bool,
}

impl Field {
    fn has(self, number: i8) -> bool {
        u32::try_from(number).is_ok_and(|n| self.bits >> n & 1 == 1)
    }
}

struct Range {
    name: &'static str,
    first: u32,
    last: u32,
    /// Words for the numbers from `first` on.
    words: &'static [&'static str],
}

const MINUTE: Range = range("minute", 0, 59, &[]);
const HOUR: Range = range("hour", 0, 23, &[]);
const DAY: Range = range("day of month", 1, 31, &[]);
const MONTH: Range = range(
    "month",
    1,
    12,
    &[
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ],
);
/// 7 is Sunday too.
const WEEKDAY: Range = range(
    "day of week",
    0,
    7,
    &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
);

const fn range(name: &'static str, first: u32, last: u32, words: &'static [&'static str]) -> Range {
    Range {
        name,
        first,
        last,
        words,
    }
}

impl Schedule {
    /// Reads a schedule.
    ///
    /// # Errors
    /// Why it is none, such as `expected exactly 5 fields, found 4`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let text = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".into());
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(format!("expected exactly 5 fields, found {}", fields.len()));
        };
        let mut schedule = Self {
            minutes: MINUTE.field(minutes)?,
            hours: HOUR.field(hours)?,
            days: DAY.field(days)?,
            months: MONTH.field(months)?,
            weekdays: WEEKDAY.field(weekdays)?,
        };
        schedule.weekdays.bits |= schedule.weekdays.bits >> 7 & 1;
        Ok(schedule)
    }

    /// The first time after `after`; `None` when there is none in the years to come. A time that the clocks of the zone skip is
    /// passed over, and one that they show twice is due once.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let from = zone
            .to_datetime(after)
            .with()
            .second(0)
            .subsec_nanosecond(0);
        let mut at = from
            .build()
            .ok()?
            .checked_add(Span::new().minutes(1))
            .ok()?;
        let last = at.date().checked_add(Span::new().years(YEARS_AHEAD)).ok()?;
        while at.date() <= last {
            let Some(found) = self.in_day(at) else {
                at = at.date().tomorrow().ok()?.at(0, 0, 0, 0);
                continue;
            };
            let due = zone.to_timestamp(found).ok();
            let exists = due.filter(|due| zone.to_datetime(*due) == found && *due > after);
            if exists.is_some() {
                return exists;
            }
            at = found.checked_add(Span::new().minutes(1)).ok()?;
        }
        None
    }

    /// The first time of the day from `at` on.
    fn in_day(&self, at: DateTime) -> Option<DateTime> {
        if !self.fits(at.date()) {
            return None;
        }
        (at.hour()..24)
            .filter(|hour| self.hours.has(*hour))
            .find_map(|hour| {
                let first = if hour == at.hour() { at.minute() } else { 0 };
                let minute = (first..60).find(|minute| self.minutes.has(*minute))?;
                Some(at.date().at(hour, minute, 0, 0))
            })
    }

    fn fits(&self, date: Date) -> bool {
        let by_day = self.days.has(date.day());
        let weekday = match date.weekday() {
            Weekday::Sunday => 0,
            other => other.to_monday_one_offset(),
        };
        let by_weekday = self.weekdays.has(weekday);
        let day = if self.days.any || self.weekdays.any {
            by_day && by_weekday
        } else {
            by_day || by_weekday
        };
        day && self.months.has(date.month())
    }
}

impl Range {
    fn field(&self, text: &str) -> Result<Field, String> {
        let mut bits = 0u64;
        for part in text.split(',') {
            bits |= self.part(part)?;
        }
        Ok(Field {
            bits,
            any: text.starts_with(['*', '?']),
        })
    }

    /// `*`, `5`, `1-5`, `*/15`, `10-50/10`, `mon-fri`.
    fn part(&self, text: &str) -> Result<u64, String> {
        let wrong = || format!("{text:?} is no {} or range of them", self.name);
        let (span, step) = match text.split_once('/') {
            Some((span, step)) => (span, Some(step.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let (first, last) = match span.split_once('-') {
            _ if matches!(span, "*" | "?") => (self.first, self.last),
            Some((first, last)) => (self.number(first)?, self.number(last)?),
            // A step goes on to the end, without one it is one number.
            None if step.is_some() => (self.number(span)?, self.last),
            None => (self.number(span)?, self.number(span)?),
        };
        let step = step.unwrap_or(1);
        if first > last || step == 0 {
            return Err(wrong());
        }
        let step = usize::try_from(step).unwrap_or(usize::MAX);
        Ok((first..=last)
            .step_by(step)
            .fold(0, |bits, n| bits | 1 << n))
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        let lower = text.to_lowercase();
        let word = self.words.iter().zip(self.first..);
        let word = word
            .filter(|(word, _)| **word == lower)
            .map(|(_, n)| n)
            .next();
        let number = word.or_else(|| text.parse().ok());
        number
            .filter(|n| (self.first..=self.last).contains(n))
            .ok_or_else(|| {
                let (name, first, last) = (self.name, self.first, self.last);
                format!("{text:?} is no {name}: must be from {first} to {last}")
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn times(schedule: &str, from: &str, many: usize) -> String {
        let schedule = Schedule::parse(schedule).unwrap();
        let mut at: Timestamp = from.parse().unwrap();
        let mut found = Vec::new();
        for _ in 0..many {
            let Some(next) = schedule.next(at, &TimeZone::UTC) else {
                break;
            };
            found.push(next.to_string());
            at = next;
        }
        found.join(" ")
    }

    #[test]
    fn the_next_times() {
        let from = "2026-02-27T09:58:30Z";
        let table = [
            "*/15 * * * *",
            "0 9-10 * * mon-fri",
            "30 4 1,15 * *",
            "0 0 13 * FRI",
            "5/20 0 29 2 *",
            "@weekly",
            "0 0 30 2 *",
            "0 12 * * 7",
        ];
        let told: Vec<_> = table
            .iter()
            .map(|schedule| format!("{schedule}: {}", times(schedule, from, 3)))
            .collect();
        expect![[r#"
            */15 * * * *: 2026-02-27T10:00:00Z 2026-02-27T10:15:00Z 2026-02-27T10:30:00Z
            0 9-10 * * mon-fri: 2026-02-27T10:00:00Z 2026-03-02T09:00:00Z 2026-03-02T10:00:00Z
            30 4 1,15 * *: 2026-03-01T04:30:00Z 2026-03-15T04:30:00Z 2026-04-01T04:30:00Z
            0 0 13 * FRI: 2026-03-06T00:00:00Z 2026-03-13T00:00:00Z 2026-03-20T00:00:00Z
            5/20 0 29 2 *: 2028-02-29T00:05:00Z 2028-02-29T00:25:00Z 2028-02-29T00:45:00Z
            @weekly: 2026-03-01T00:00:00Z 2026-03-08T00:00:00Z 2026-03-15T00:00:00Z
            0 0 30 2 *: 
            0 12 * * 7: 2026-03-01T12:00:00Z 2026-03-08T12:00:00Z 2026-03-15T12:00:00Z"#]]
        .assert_eq(&told.join("\n"));
    }

    #[test]
    fn what_is_no_schedule() {
        let wrong = [
            "",
            "* * * *",
            "60 * * * *",
            "* * * * mo",
            "5-1 * * * *",
            "*/0 * * * *",
            "TZ=UTC * * * * *",
            "a * * * *",
            "@often",
        ];
        let told: Vec<_> = wrong
            .iter()
            .map(|text| format!("{text:?}: {}", Schedule::parse(text).unwrap_err()))
            .collect();
        expect![[r#"
            "": expected exactly 5 fields, found 0
            "* * * *": expected exactly 5 fields, found 4
            "60 * * * *": "60" is no minute: must be from 0 to 59
            "* * * * mo": "mo" is no day of week: must be from 0 to 7
            "5-1 * * * *": "5-1" is no minute or range of them
            "*/0 * * * *": "*/0" is no minute or range of them
            "TZ=UTC * * * * *": cannot use TZ or CRON_TZ in schedule, use timeZone field instead
            "a * * * *": "a" is no minute: must be from 0 to 59
            "@often": expected exactly 5 fields, found 1"#]]
        .assert_eq(&told.join("\n"));
    }

    #[test]
    fn clocks_that_are_set() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let schedule = Schedule::parse("30 2 * * *").unwrap();
        let next = |from: &str| {
            schedule
                .next(from.parse().unwrap(), &zone)
                .unwrap()
                .to_string()
        };
        // 02:30 is skipped on 29 March, and comes twice on 25 October.
        assert_eq!(next("2026-03-28T12:00:00Z"), "2026-03-30T00:30:00Z");
        assert_eq!(next("2026-10-24T12:00:00Z"), "2026-10-25T00:30:00Z");
        assert_eq!(next("2026-10-25T00:30:00Z"), "2026-10-26T01:30:00Z");
    }
}
