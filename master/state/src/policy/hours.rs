//! The column `time` of a rule: windows of days and hours.
//!
//! `Mon-Fri 08:00-18:00; Sat,Sun 10:00-12:00 +01:00`: windows are separated by `;`. A window is, in this order and each
//! part optional: dates (`2026-11-20..2026-12-01`, either side may be left open), days of the week, hours, and the
//! offset from UTC (none: UTC). Hours end before their end; hours that end where they begin or earlier (`20:00-06:00`)
//! go over midnight and belong to the day they begin on.

use crate::calendar::{DAY, day_of};

/// Windows in one text.
const MOST: usize = 64;
const MINUTES: u64 = 24 * 60;
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// When a rule holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours(Vec<Window>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    /// First and last day, counted from 1970-01-01.
    dates: (u64, u64),
    /// Monday is the first.
    days: [bool; 7],
    /// Beginning and end in minutes; none: the whole day.
    spans: Vec<(u64, u64)>,
    /// Seconds that are added to UTC.
    offset: i64,
}

impl Hours {
    /// Reads it; empty text and `*` are always.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(text: &str) -> Result<Hours, String> {
        if text.trim().is_empty() || text.trim() == "*" {
            return Ok(Hours(Vec::new()));
        }
        let windows: Vec<&str> = text.split(';').map(str::trim).filter(|window| !window.is_empty()).collect();
        if windows.is_empty() || windows.len() > MOST {
            return Err(format!("'{text}' has {} windows; 1 to {MOST} can be", windows.len()));
        }
        windows.into_iter().map(Window::parse).collect::<Result<_, _>>().map(Hours)
    }

    /// Whether this unix second is in one of the windows.
    pub fn contain(&self, unix: u64) -> bool {
        self.0.is_empty() || self.0.iter().any(|window| window.contains(unix))
    }
}

impl Window {
    fn parse(text: &str) -> Result<Window, String> {
        let mut words = text.split_whitespace().peekable();
        let mut window = Window { dates: (0, u64::MAX), days: [true; 7], spans: Vec::new(), offset: 0 };
        if let Some(word) = words.next_if(|word| word.contains("..")) {
            window.dates = dates(word).ok_or_else(|| format!("'{word}' is not YYYY-MM-DD..YYYY-MM-DD"))?;
        }
        if let Some(word) =
            words.next_if(|word| word.starts_with(|c: char| c.is_ascii_alphabetic()) && *word != "UTC")
        {
            window.days =
                days(word).ok_or_else(|| format!("'{word}' is not days like Mon-Fri or Sat,Sun"))?;
        }
        if let Some(word) = words.next_if(|word| word.starts_with(|c: char| c.is_ascii_digit())) {
            window.spans = spans(word).ok_or_else(|| format!("'{word}' is not hours like 08:00-18:00"))?;
        }
        if let Some(word) = words.next() {
            window.offset =
                offset(word).ok_or_else(|| format!("'{word}' is not an offset from UTC like +01:00"))?;
        }
        match words.next() {
            Some(word) => Err(format!("'{word}' is too much in '{text}'; windows are separated by ';'")),
            None => Ok(window),
        }
    }

    fn contains(&self, unix: u64) -> bool {
        let local = unix.saturating_add_signed(self.offset);
        let (day, minute) = (local / DAY, local % DAY / 60);
        if self.spans.is_empty() {
            return self.holds_on(Some(day));
        }
        self.spans.iter().any(|&(begin, end)| match begin < end {
            true => (begin..end).contains(&minute) && self.holds_on(Some(day)),
            false => {
                (minute >= begin && self.holds_on(Some(day)))
                    || (minute < end && self.holds_on(day.checked_sub(1)))
            }
        })
    }

    fn holds_on(&self, day: Option<u64>) -> bool {
        // 1970-01-01 was a Thursday.
        let weekday = |day: u64| usize::try_from((day + 3) % 7).unwrap_or(0);
        day.is_some_and(|day| (self.dates.0..=self.dates.1).contains(&day) && self.days[weekday(day)])
    }
}

fn dates(word: &str) -> Option<(u64, u64)> {
    let (first, last) = word.split_once("..")?;
    let first = if first.is_empty() { 0 } else { day_of(first)? };
    let last = if last.is_empty() { u64::MAX } else { day_of(last)? };
    (first <= last).then_some((first, last))
}

fn days(word: &str) -> Option<[bool; 7]> {
    let number = |name: &str| DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
    let mut days = [false; 7];
    for part in word.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut day, last) = (number(first)?, number(last)?);
        days[day] = true;
        while day != last {
            day = (day + 1) % 7;
            days[day] = true;
        }
    }
    Some(days)
}

fn spans(word: &str) -> Option<Vec<(u64, u64)>> {
    let span = |part: &str| {
        let (begin, end) = part.split_once('-')?;
        Some((minute(begin).filter(|begin| *begin < MINUTES)?, minute(end)?))
    };
    word.split(',').map(span).collect()
}

fn minute(text: &str) -> Option<u64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| text.len() == 2);
    let (hour, minute) = (number(hour)?, number(minute)?);
    let all = hour * 60 + minute;
    (minute < 60 && all <= MINUTES).then_some(all)
}

fn offset(word: &str) -> Option<i64> {
    if word == "UTC" || word == "Z" {
        return Some(0);
    }
    let sign = match word.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let minutes = minute(&word[1..]).filter(|minutes| *minutes <= 14 * 60)?;
    i64::try_from(minutes * 60).ok().map(|seconds| sign * seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// 2026-11-23 was a Monday.
    fn at(day: u64, hour: u64, minute: u64) -> u64 {
        day_of("2026-11-23").unwrap() * DAY + day * DAY + hour * 3600 + minute * 60
    }

    #[test]
    fn a_window_holds_on_its_days_and_hours() {
        let check = |text: &str, when: u64, expected: bool| {
            assert_eq!(Hours::parse(text).unwrap().contain(when), expected, "{text} at {when}");
        };
        check("", at(0, 3, 0), true);
        check("*", at(0, 3, 0), true);
        check("Mon-Fri 08:00-18:00", at(0, 8, 0), true);
        check("Mon-Fri 08:00-18:00", at(0, 18, 0), false);
        check("Mon-Fri 08:00-18:00", at(5, 9, 0), false);
        check("Mon-Fri 08:00-18:00; Sat 09:00-10:00", at(5, 9, 0), true);
        check("fri-mon", at(6, 0, 0), true);
        check("fri-mon", at(1, 0, 0), false);
        check("Mon,Wed 12:00-13:00,15:00-24:00", at(2, 23, 59), true);
        check("Mon,Wed 12:00-13:00,15:00-24:00", at(2, 14, 0), false);
        check("Sun 22:00-06:00", at(6, 23, 0), true);
        check("Sun 22:00-06:00", at(7, 5, 59), true);
        check("Sun 22:00-06:00", at(7, 6, 0), false);
        check("Sun 22:00-06:00", at(6, 5, 0), false);
        check("08:00-18:00 +02:00", at(0, 6, 0), true);
        check("08:00-18:00 +02:00", at(0, 16, 0), false);
        check("Mon 00:00-01:00 -05:00", at(0, 5, 30), true);
        check("Mon UTC", at(0, 5, 30), true);
        check("2026-11-23..2026-11-24 08:00-09:00", at(1, 8, 0), true);
        check("2026-11-23..2026-11-24 08:00-09:00", at(2, 8, 0), false);
        check("..2026-11-22", at(0, 0, 0), false);
        check("2026-11-23..", at(300, 0, 0), true);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for text in [
            ";",
            "always",
            "Mon-Foo",
            "25:00-26:00",
            "8-18",
            "08:00-18:00 CET",
            "08:00",
            "Mon Tue",
            "24:00-25:00",
            "2026-12-01..2026-11-01",
            "2026-02-30x..",
            "08:00-18:00 +15:00",
            "08:00-18:00 +1",
            "é",
            "+é",
        ] {
            assert!(Hours::parse(text).is_err(), "{text}");
        }
    }
}
