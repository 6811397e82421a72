//! Days of the calendar, UTC.

/// Seconds of a day.
pub const DAY: u64 = 86_400;

/// The number of a day, counted from 1970-01-01; `None`: there is no such day, or it is before that one.
pub fn day_number(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Counted in years that begin in March, in the proleptic Gregorian calendar.
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year).checked_sub(719_468)
}

/// The day that `YYYY-MM-DD` names, counted from 1970-01-01.
pub fn day_of(text: &str) -> Option<u64> {
    let parts: Vec<u64> = text.split('-').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    let [year, month, day] = parts[..] else { return None };
    day_number(year, month, day)
}

#[cfg(test)]
mod tests {
    use super::day_of;

    #[test]
    fn days_are_counted_from_1970() {
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("2000-02-29", Some(951_782_400 / 86_400)),
            ("2026-11-20", Some(1_795_132_800 / 86_400)),
            ("1969-12-31", None),
            ("2026-13-01", None),
            ("2026-11", None),
        ] {
            assert_eq!(day_of(text), expected, "{text}");
        }
    }
}
