//! Numbers, durations and short texts for people.

use std::time::Duration;

/// `1.2 GiB`.
pub fn bytes(n: u64) -> String {
    bytesize::ByteSize(n).display().iec().to_string()
}

/// `1,234,567`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `1 backup`, `2,000 entries`: a number and its noun, which is given in the singular.
pub fn several(n: u64, what: &str) -> String {
    let plural = match what.strip_suffix('y').filter(|stem| !stem.ends_with(['a', 'e', 'o', 'u'])) {
        Some(stem) => format!("{stem}ies"),
        None if what.ends_with('x') => format!("{what}es"),
        None => format!("{what}s"),
    };
    format!("{} {}", count(n), if n == 1 { what } else { &plural })
}

/// `3 d 4 h`, `2 min 5 s`, `7.4 s`.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{:.1} s", d.as_secs_f64()),
        60..3600 => format!("{} min {} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {} min", s / 3600, s % 3600 / 60),
        _ => format!("{} d {} h", s / 86_400, s % 86_400 / 3600),
    }
}

/// Returns bytes per second; `None` if the time is too short to be measured.
pub fn speed(bytes: u64, took: Duration) -> Option<f64> {
    (took >= Duration::from_millis(1)).then(|| bytes as f64 / took.as_secs_f64())
}

/// `28.4 MiB/s`.
pub fn bytes_per_second(speed: f64) -> String {
    format!("{}/s", bytes(speed.max(0.0).round() as u64))
}

/// `40 min`, `30 h`, `30 h 20 min`, `3 d 4 h`: an age that is compared with a limit. Up to two days it is in hours, as the limit
/// is set, and exact to the minute.
pub fn age(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours @ 1..=47, 0) => format!("{hours} h"),
        (hours @ 1..=47, minutes) => format!("{hours} h {minutes} min"),
        (hours, _) => format!("{} d {} h", hours / 24, hours % 24),
    }
}

/// Joins the lines of a text.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The beginning of a text in one line of at most `most` characters.
pub fn brief_text(text: &str, most: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= most {
        return line;
    }
    let kept: String = line.chars().take(most.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Parses a whole number and `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || "it must be a whole number with a unit, e.g. 90s, 10m or 2h".to_string();
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
    let (digits, seconds) =
        units.iter().find_map(|(unit, n)| Some((text.strip_suffix(*unit)?, n))).ok_or_else(wrong)?;
    // `parse` would accept a sign.
    let number = digits.parse::<u32>().ok().filter(|_| !digits.starts_with('+')).ok_or_else(wrong)?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// As [`duration`], but in milliseconds below a second: `12 ms`.
pub fn brief(d: Duration) -> String {
    if d < Duration::from_secs(1) { format!("{} ms", d.as_millis()) } else { duration(d) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_parsed() {
        let seconds = |text| parse_duration(text).ok().map(|d| d.as_secs());
        for (text, want) in [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400), ("0s", 0)] {
            assert_eq!(seconds(text), Some(want), "{text}");
        }
        for text in ["", "m", "10", "-1s", "+1s", "1.5h", "1w", "10 m", "1h30m", "99999999999s", "ü", "1ü"]
        {
            assert_eq!(seconds(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(123), "123");
        for (n, what, want) in [
            (0, "backup", "0 backups"),
            (1, "oplog entry", "1 oplog entry"),
            (2_000, "oplog entry", "2,000 oplog entries"),
            (30, "day", "30 days"),
            (2, "index", "2 indexes"),
        ] {
            assert_eq!(several(n, what), want);
        }
        assert_eq!(duration(Duration::from_millis(7_400)), "7.4 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(90_061)), "1 d 1 h");
        assert_eq!(brief(Duration::from_micros(12_700)), "12 ms");
        assert_eq!(brief(Duration::from_secs(1)), "1.0 s");
        assert_eq!(brief_text(" it\n  broke ", 8), "it broke");
        assert_eq!(brief_text("it broke, große Not", 12), "it broke, g…");
        assert_eq!(brief_text("it broke", 4), "it…");
        assert_eq!(bytes(1 << 30), "1.0 GiB");
    }
}
