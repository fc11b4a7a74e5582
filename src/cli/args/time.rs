//! Times in UTC on the command line.

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, Utc};

/// Parses a time, or a date, which stands for its first second.
pub(super) fn from(text: &str) -> Result<DateTime<Utc>, String> {
    parse(text, NaiveTime::MIN)
}

/// Parses a time, or a date, which stands for its last second.
pub(super) fn to(text: &str) -> Result<DateTime<Utc>, String> {
    parse(text, NaiveTime::from_hms_opt(23, 59, 59).expect("a time"))
}

fn parse(text: &str, of_date: NaiveTime) -> Result<DateTime<Utc>, String> {
    // chrono also accepts signs and fewer digits.
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    let date = date.filter(|date| date.format("%Y-%m-%d").to_string() == text);
    let time = || {
        let mut forms =
            ["%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%MZ", "%Y-%m-%d %H:%M:%SZ"].into_iter();
        forms.find_map(|form| {
            let time = NaiveDateTime::parse_from_str(text, form).ok()?;
            (time.format(form).to_string() == text).then(|| time.and_utc())
        })
    };
    let with_zone = || DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc());
    let parsed = date.map(|date| date.and_time(of_date).and_utc()).or_else(time).or_else(with_zone);
    parsed.ok_or_else(|| {
        "it is neither a date such as 2026-11-23 nor a time in UTC such as 2026-11-23T14:00Z".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_stands_for_its_first_or_last_second() {
        let shown = |time: Result<DateTime<Utc>, String>| time.map(|time| time.to_rfc3339());
        assert_eq!(shown(from("2026-11-23")), Ok("2026-11-23T00:00:00+00:00".into()));
        assert_eq!(shown(to("2026-11-23")), Ok("2026-11-23T23:59:59+00:00".into()));
        for same in ["2026-11-23T14:05Z", "2026-11-23 14:05:00Z", "2026-11-23T15:05:00+01:00"] {
            assert_eq!(shown(from(same)), Ok("2026-11-23T14:05:00+00:00".into()), "{same}");
        }
        for wrong in ["", "14:00", "2026-11-23T14:00", "2026-13-01", "+2026-11-23", "yesterday"] {
            assert!(from(wrong).is_err(), "{wrong}");
        }
    }
}
