//! Unix seconds as admins read them: `MM-DD-YYYY hh:mm:ss`, UTC.

/// The time in xCAT's writing.
#[must_use]
pub fn stamp(unix: u64) -> String {
    let (days, seconds) = (unix / 86_400, unix % 86_400);
    let (year, month, day) = civil(days);
    format!(
        "{month:02}-{day:02}-{year:04} {:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// The seconds of a time in xCAT's writing; none when it is none.
#[must_use]
pub fn unix(stamp: &str) -> Option<u64> {
    let (date, time) = stamp.trim().split_once(' ')?;
    let numbers = |text: &str, between| {
        let parts: Option<Vec<u64>> = text.split(between).map(|part| part.parse().ok()).collect();
        <[u64; 3]>::try_from(parts?).ok()
    };
    let ([month, day, year], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let fits = (1970..=9999).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // The inverse of `civil`: years begin with March.
    let year = year - u64::from(month <= 2);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let of_era = (year % 400) * 365 + (year % 400) / 4 - (year % 400) / 100 + of_year;
    let days = ((year / 400) * 146_097 + of_era).checked_sub(719_468)?;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Year, month and day of the days since 1970 (Hinnant, "chrono-compatible low-level date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_seconds_are_known_days() {
        for (unix, text) in [
            (0, "01-01-1970 00:00:00"),
            (951_782_400, "02-29-2000 00:00:00"),
            (1_700_000_000, "11-14-2023 22:13:20"),
            (4_102_444_799, "12-31-2099 23:59:59"),
        ] {
            assert_eq!(stamp(unix), text);
            assert_eq!(super::unix(text), Some(unix));
        }
    }

    #[test]
    fn what_is_no_time_has_no_seconds() {
        for text in
            ["", "yesterday", "13-01-2020 00:00:00", "01-01-2020", "01-01-2020 24:00:00", "1-2-3-4 1:2:3"]
        {
            assert_eq!(unix(text), None, "{text}");
        }
    }
}
