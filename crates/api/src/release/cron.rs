//! Times that come again, as cron writes them, and the windows that begin at them.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// Five fields: minute, hour, day of the month, month, day of the week (0 and 7 are Sunday). Each is `*`, a number, a name, a
/// range `a-b`, any of these with a step `/n`, or a list of them. Where both days are restricted, either is enough, as in cron.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether one of the two kinds of days is enough.
    either_day: bool,
}

/// Clocks are changed by no more. What is later by more than this has not come yet, whatever the zone: it needs no look at it.
const LONGEST_CLOCK_CHANGE: SignedDuration = SignedDuration::from_hours(3);

struct Kind {
    name: &'static str,
    first: u8,
    last: u8,
    names: &'static [&'static str],
}

const KINDS: [Kind; 5] = [
    Kind {
        name: "minute",
        first: 0,
        last: 59,
        names: &[],
    },
    Kind {
        name: "hour",
        first: 0,
        last: 23,
        names: &[],
    },
    Kind {
        name: "day of the month",
        first: 1,
        last: 31,
        names: &[],
    },
    Kind {
        name: "month",
        first: 1,
        last: 12,
        names: &[
            "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
        ],
    },
    Kind {
        name: "day of the week",
        first: 0,
        last: 7,
        names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
    },
];

impl Cron {
    /// Reads the five fields.
    ///
    /// # Errors
    /// What is wrong with the first field that is.
    pub fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            return Err("must have five fields, such as \"0 16 * * fri\"".to_owned());
        };
        let [of_minute, of_hour, of_day, of_month, of_weekday] = &KINDS;
        let weekdays = of_weekday.parse(weekday)?;
        Ok(Self {
            minutes: of_minute.parse(minute)?,
            hours: of_hour.parse(hour)?,
            days: of_day.parse(day)?,
            months: of_month.parse(month)?,
            // Sunday has two numbers.
            weekdays: weekdays | (weekdays >> 7 & 1),
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
        })
    }

    /// The latest time that is not after `now` and less than `within` before it, in the zone. A time that a clock change
    /// leaves out comes when the clock has been changed.
    pub fn latest(
        &self,
        now: Timestamp,
        within: SignedDuration,
        zone: &TimeZone,
    ) -> Option<Timestamp> {
        let earliest = now.checked_sub(within).ok()?;
        let local = now.to_zoned(zone.clone()).datetime();
        let soon = local.saturating_add(LONGEST_CLOCK_CHANGE);
        let mut date = local.date();
        let first = earliest.to_zoned(zone.clone()).date();
        while date >= first {
            if self.has_date(date) {
                for (hour, minute) in self.times() {
                    let at = date.at(hour, minute, 0, 0);
                    if at > soon {
                        continue;
                    }
                    let at = at.to_zoned(zone.clone()).ok()?;
                    let at = at.timestamp();
                    if at <= now {
                        return (at > earliest).then_some(at);
                    }
                }
            }
            date = date.yesterday().ok()?;
        }
        None
    }

    fn has_date(&self, date: Date) -> bool {
        let has = |set: u64, number: i8| set >> number & 1 == 1;
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        let days = if self.either_day {
            day || weekday
        } else {
            day && weekday
        };
        has(self.months, date.month()) && days
    }

    /// The times of a day, the last first.
    fn times(&self) -> impl Iterator<Item = (i8, i8)> + '_ {
        let hours = (0..24_i8).rev().filter(|hour| self.hours >> hour & 1 == 1);
        hours.flat_map(|hour| {
            let minutes = (0..60_i8)
                .rev()
                .filter(|minute| self.minutes >> minute & 1 == 1);
            minutes.map(move |minute| (hour, minute))
        })
    }
}

impl Kind {
    /// The set of numbers of a field.
    fn parse(&self, field: &str) -> Result<u64, String> {
        let mut set = 0;
        for part in field.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, step.parse().ok().filter(|n| *n > 0)),
                None => (part, Some(1_usize)),
            };
            let bounds = match range.split_once('-') {
                _ if range == "*" => Some((self.first, self.last)),
                Some((from, to)) => self.number(from).zip(self.number(to)),
                // `5/10` goes on from 5, as in cron.
                None if part.contains('/') => self.number(range).map(|from| (from, self.last)),
                None => self.number(range).map(|one| (one, one)),
            };
            match (bounds, step) {
                (Some((from, to)), Some(step)) if from <= to => {
                    set |= (from..=to).step_by(step).fold(0, |set, n| set | 1_u64 << n);
                }
                _ => {
                    let Self {
                        name, first, last, ..
                    } = self;
                    return Err(format!(
                        "{part:?} is no {name}: it is from {first} to {last}"
                    ));
                }
            }
        }
        Ok(set)
    }

    fn number(&self, text: &str) -> Option<u8> {
        let lower = text.to_lowercase();
        let named = self.names.iter().position(|name| *name == lower);
        let named = named.and_then(|place| u8::try_from(place).ok());
        let number = named
            .map(|place| place + self.first)
            .or_else(|| text.parse().ok());
        number.filter(|n| (self.first..=self.last).contains(n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// The latest time within 40 days before one in Berlin.
    fn latest(cron: &str, now: &str) -> String {
        let zone = jiff::tz::TimeZoneDatabase::bundled()
            .get("Europe/Berlin")
            .unwrap();
        let now = now.parse::<jiff::civil::DateTime>().unwrap();
        let now = now.to_zoned(zone.clone()).unwrap().timestamp();
        let found =
            Cron::parse(cron)
                .unwrap()
                .latest(now, SignedDuration::from_hours(40 * 24), &zone);
        let shown = found.map(|at| at.to_zoned(zone).strftime("%a %F %R %Z").to_string());
        shown.unwrap_or_else(|| "never".to_owned())
    }

    #[test]
    fn the_latest_time_of_a_schedule() {
        let found = [
            latest("0 16 * * fri", "2026-11-28T12:00"),
            latest("0 16 * * FRI", "2026-11-27T15:59"),
            latest("*/15 9-17 * * 1-5", "2026-11-28T12:00"),
            latest("0 0 24,31 12 *", "2027-01-05T00:00"),
            latest("0 0 13 * 5", "2026-11-14T00:00"),
            latest("0 0 * * 7", "2026-11-28T00:00"),
            latest("30 5 29 2 *", "2026-11-28T00:00"),
            // The clock goes from 2 to 3 on this day.
            latest("30 2 * * *", "2026-03-29T12:00"),
        ];
        expect![[r#"
            Fri 2026-11-27 16:00 CET
            Fri 2026-11-20 16:00 CET
            Fri 2026-11-27 17:45 CET
            Thu 2026-12-31 00:00 CET
            Fri 2026-11-13 00:00 CET
            Sun 2026-11-22 00:00 CET
            never
            Sun 2026-03-29 03:30 CEST"#]]
        .assert_eq(&found.join("\n"));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        let told = [
            "",
            "0 16 * *",
            "60 * * * *",
            "* * 0 * *",
            "* * * * mo",
            "5-1 * * * *",
            "*/0 * * * *",
        ]
        .map(|text| Cron::parse(text).unwrap_err());
        expect![[r#"
            must have five fields, such as "0 16 * * fri"
            must have five fields, such as "0 16 * * fri"
            "60" is no minute: it is from 0 to 59
            "0" is no day of the month: it is from 1 to 31
            "mo" is no day of the week: it is from 0 to 7
            "5-1" is no minute: it is from 0 to 59
            "*/0" is no minute: it is from 0 to 59"#]]
        .assert_eq(&told.join("\n"));
    }
}
