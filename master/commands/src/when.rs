//! Points of the past as admins write them: `1234`, `2026-11-20 09:30`, `@1790000000`, `2h` (ago), `now`. UTC.

use state::calendar::day_number;

pub(crate) use state::calendar::DAY;

use crate::plan::{Ctx, Need, Plan};

/// A point of the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// This revision.
    Revision(u64),
    /// The last revision that was made not after this unix second.
    Time(u64),
    /// The newest revision.
    Now,
}

impl When {
    /// Reads it.
    ///
    /// # Errors
    /// A sentence.
    pub fn parse(text: &str, now: u64) -> Result<When, String> {
        let wrong = || {
            format!(
                "'{text}' is neither a revision nor a time; write 1234, 2026-11-20T09:30, @1790000000, 2h (ago) or now"
            )
        };
        if text == "now" {
            return Ok(When::Now);
        }
        if let Some(unix) = text.strip_prefix('@') {
            return unix.parse().map(When::Time).map_err(|_| wrong());
        }
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(When::Revision).map_err(|_| wrong());
        }
        let unit = match text.bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            Some(b'd') => DAY,
            _ => 0,
        };
        if unit > 0 {
            let count: u64 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
            return Ok(When::Time(now.saturating_sub(count.saturating_mul(unit))));
        }
        date(text).map(When::Time).ok_or_else(wrong)
    }
}

/// Unix seconds of `YYYY-MM-DD[(T| )hh:mm[:ss]]`.
fn date(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (day, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let numbers = |text: &str, separator| -> Option<Vec<u64>> {
        text.split(separator).map(|part| part.parse().ok()).collect()
    };
    let [year, month, day] = numbers(day, '-')?[..] else { return None };
    let time = numbers(time, ':')?;
    let (hour, minute) = (*time.first()?, *time.get(1)?);
    let second = time.get(2).copied().unwrap_or(0);
    if time.len() > 3 || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    Some(day_number(year, month, day)? * DAY + hour * 3600 + minute * 60 + second)
}

impl Ctx<'_> {
    /// The revision that is meant. `Err` is the plan to answer with.
    pub(crate) fn revision(&self, text: &str) -> Result<u64, Plan> {
        let newest = self.state.revision();
        let number = match When::parse(text, self.now).map_err(|wrong| Plan::error(self, &wrong))? {
            When::Now => newest,
            When::Revision(number) => number,
            When::Time(time) => *self.inputs.instants.get(&time).ok_or(Plan::Need(Need::Instant(time)))?,
        };
        if number > newest {
            return Err(Plan::error(self, &format!("There is no revision {number}; the newest is {newest}")));
        }
        Ok(number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_times_and_durations_are_told_apart() {
        for (text, expected) in [
            ("17", Some(When::Revision(17))),
            ("now", Some(When::Now)),
            ("@5", Some(When::Time(5))),
            ("2h", Some(When::Time(100_000 - 7200))),
            ("3d", Some(When::Time(0))),
            ("1970-01-02", Some(When::Time(86_400))),
            ("2000-02-29T00:00", Some(When::Time(951_782_400))),
            ("2023-11-14 22:13:20", Some(When::Time(1_700_000_000))),
            ("2023-11-14T22:13:20Z", Some(When::Time(1_700_000_000))),
            ("2023-13-14", None),
            ("h", None),
            ("", None),
            ("soon", None),
            ("99999999999999999999", None),
        ] {
            let found = When::parse(text, 100_000).ok().filter(|_| !text.is_empty());
            assert_eq!(found, expected, "{text}");
        }
    }
}
