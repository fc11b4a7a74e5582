//! Namespace patterns with mongorestore's rules: anchored, `*` stands for anything (dots too), `\`
//! makes the next character literal, `$` is refused. Source: mongo-tools, `mongorestore/ns/ns.go`.

use std::fmt;
use std::str::FromStr;

/// A pattern over `db.collection`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    /// The literal runs between the stars; at least one.
    runs: Vec<String>,
}

impl Pattern {
    /// Whether the pattern matches the whole of `namespace`.
    pub fn matches(&self, namespace: &str) -> bool {
        let (first, rest) = self.runs.split_first().expect("at least one run");
        let Some(mut text) = namespace.strip_prefix(first.as_str()) else { return false };
        let Some((last, middle)) = rest.split_last() else { return text.is_empty() };
        for run in middle {
            match text.find(run.as_str()) {
                Some(at) => text = &text[at + run.len()..],
                None => return false,
            }
        }
        text.len() >= last.len() && text.ends_with(last.as_str())
    }

    /// Whether it can match something that begins with `start`.
    pub fn may_match_below(&self, start: &str) -> bool {
        let first = self.runs[0].as_str();
        first.starts_with(start) || (self.runs.len() > 1 && start.starts_with(first))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Pattern, String> {
        let mut runs = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let run = runs.last_mut().expect("never empty");
            match c {
                '*' => runs.push(String::new()),
                '$' => return Err(format!("the pattern '{text}' contains '$', which namespaces cannot")),
                '\\' => {
                    run.push(chars.next().ok_or_else(|| format!("the pattern '{text}' ends in a lone '\\'"))?)
                }
                c => run.push(c),
            }
        }
        if text.is_empty() {
            return Err("a pattern is empty".into());
        }
        Ok(Pattern { text: text.into(), runs })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mongorestores_rules() {
        for (pattern, namespace, want) in [
            ("shop.orders", "shop.orders", true),
            ("shop.orders", "shop.orders2", false),
            ("shop.*", "shop.orders", true),
            ("shop.*", "shop.a.b", true),
            ("shop.*", "shops.a", false),
            ("*.orders", "a.b.orders", true),
            ("*", "a.b", true),
            ("a*b*c", "a.xx.b.yy.c", true),
            ("a*b*c", "a.c.b", false),
            ("ab*ba", "aba", false),
            (r"shop.with\*star", "shop.with*star", true),
            (r"shop.with\*star", "shop.withXstar", false),
            (r"shop.back\\slash", r"shop.back\slash", true),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().matches(namespace), want, "{pattern} {namespace}");
        }
    }

    #[test]
    fn what_can_lie_in_a_database() {
        for (pattern, want) in [
            ("shop.orders", true),
            ("shop.o*", true),
            ("sh*", true),
            ("*.orders", true),
            ("shop", false),
            ("shops.*", false),
            ("shops*", false),
        ] {
            assert_eq!(pattern.parse::<Pattern>().unwrap().may_match_below("shop."), want, "{pattern}");
        }
    }

    #[test]
    fn what_is_refused_is_named() {
        for bad in ["a.$x", "a\\", ""] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
