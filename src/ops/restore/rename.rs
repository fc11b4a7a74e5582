//! `--ns-from` and `--ns-to`: other names for namespaces, by mongorestore's rules. `*` or `$name$` stand for
//! anything, as little as fits; what they stood for in the one goes into the other. Of several pairs the last
//! that fits counts. Source: mongo-tools, `mongorestore/ns/ns.go`.

use std::collections::BTreeMap;

/// A pattern with parts that stand for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// `*`, or `$name$` with its name.
    Any(Option<String>),
}

/// A pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The first pattern as it was given.
    pub from_text: String,
    /// The second pattern as it was given.
    pub to_text: String,
    from: Vec<Part>,
    to: Vec<Part>,
}

/// Pairs the patterns up.
///
/// # Errors
/// If they do not pair up, with the reason.
pub fn pairs(from: &[String], to: &[String]) -> Result<Vec<Rename>, String> {
    if from.len() != to.len() {
        let times = |given: &[String]| match given.len() {
            0 => "not at all".to_string(),
            1 => "once".to_string(),
            n => format!("{n} times"),
        };
        return Err(format!(
            "--ns-from is given {}, --ns-to {}: they go in pairs, as in --ns-from 'shop.*' --ns-to 'copy.*'",
            times(from),
            times(to)
        ));
    }
    from.iter().zip(to).map(|(from, to)| pair(from, to)).collect()
}

fn pair(from_text: &str, to_text: &str) -> Result<Rename, String> {
    let (from, to) = (parse(from_text)?, parse(to_text)?);
    let names = |parts: &[Part]| -> Vec<Option<String>> {
        let any = |part: &Part| match part {
            Part::Any(name) => Some(name.clone()),
            Part::Literal(_) => None,
        };
        parts.iter().filter_map(any).collect()
    };
    let (mut of_from, mut of_to) = (names(&from), names(&to));
    of_from.sort();
    of_to.sort();
    let mixed = |names: &[Option<String>]| names.iter().any(Option::is_some) && names.contains(&None);
    if mixed(&of_from) || mixed(&of_to) {
        return Err(format!("'{from_text}' and '{to_text}': either '*' or '$names$', not both"));
    }
    if of_from != of_to {
        return Err(format!("'{from_text}' and '{to_text}' need the same '*' or '$names$'"));
    }
    if of_from.windows(2).any(|two| two[0].is_some() && two[0] == two[1]) {
        return Err(format!("'{from_text}' has a name twice"));
    }
    Ok(Rename { from_text: from_text.into(), to_text: to_text.into(), from, to })
}

fn parse(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars();
    let end = |literal: &mut String, parts: &mut Vec<Part>| {
        if !literal.is_empty() {
            parts.push(Part::Literal(std::mem::take(literal)));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                literal.push(chars.next().ok_or_else(|| format!("the pattern '{text}' ends in a lone '\\'"))?)
            }
            '*' => {
                end(&mut literal, &mut parts);
                parts.push(Part::Any(None));
            }
            '$' => {
                end(&mut literal, &mut parts);
                let name: String = chars.by_ref().take_while(|c| *c != '$').collect();
                let known = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !known || !text.contains(&format!("${name}$")) {
                    return Err(format!("the pattern '{text}' has a '$' that begins no '$name$'"));
                }
                parts.push(Part::Any(Some(name)));
            }
            c => literal.push(c),
        }
    }
    end(&mut literal, &mut parts);
    if parts.is_empty() {
        return Err("a pattern is empty".into());
    }
    Ok(parts)
}

impl Rename {
    /// The other name; `None` if the pattern does not fit.
    pub fn apply(&self, namespace: &str) -> Option<String> {
        let mut found = Vec::new();
        fits(&self.from, namespace, &mut found).then(|| self.filled(&found))
    }

    fn filled(&self, found: &[&str]) -> String {
        let any = self.from.iter().filter_map(|part| match part {
            Part::Any(name) => Some(name.clone()),
            Part::Literal(_) => None,
        });
        let by_name: BTreeMap<Option<String>, &str> = any.zip(found.iter().copied()).collect();
        let mut in_order = found.iter();
        let mut out = String::new();
        for part in &self.to {
            match part {
                Part::Literal(text) => out.push_str(text),
                Part::Any(None) => out.push_str(in_order.next().copied().unwrap_or_default()),
                Part::Any(name) => out.push_str(by_name.get(name).copied().unwrap_or_default()),
            }
        }
        out
    }
}

/// Whether the parts fit the whole text; what each stood for, the first as short as it can be.
fn fits<'a>(parts: &[Part], text: &'a str, found: &mut Vec<&'a str>) -> bool {
    match parts.split_first() {
        None => text.is_empty(),
        Some((Part::Literal(literal), rest)) => {
            text.strip_prefix(literal.as_str()).is_some_and(|text| fits(rest, text, found))
        }
        Some((Part::Any(_), rest)) => {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            for end in ends {
                found.push(&text[..end]);
                if fits(rest, &text[end..], found) {
                    return true;
                }
                found.pop();
            }
            false
        }
    }
}

/// The name that a namespace gets: the last pair that fits decides.
pub fn renamed(pairs: &[Rename], namespace: &str) -> String {
    pairs.iter().rev().find_map(|pair| pair.apply(namespace)).unwrap_or_else(|| namespace.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rename(pairs_of: &[(&str, &str)], name: &str) -> String {
        let (from, to): (Vec<String>, Vec<String>) =
            pairs_of.iter().map(|(a, b)| (a.to_string(), b.to_string())).unzip();
        renamed(&pairs(&from, &to).unwrap(), name)
    }

    #[test]
    fn mongorestores_rules() {
        for (from, to, name, want) in [
            ("shop.*", "copy.*", "shop.a.b", "copy.a.b"),
            ("shop.orders", "copy.o", "shop.orders", "copy.o"),
            ("shop.orders", "copy.o", "shop.orders2", "shop.orders2"),
            ("$db$.$coll$", "$coll$.$db$", "a.b.c", "b.c.a"),
            ("$db$.user$n$", "users.$db$_$n$", "eu.user7", "users.eu_7"),
            ("*.x*", "*.y*", "a.xxb", "a.yxb"),
            (r"d.a\*b", r"d.\$c", "d.a*b", "d.$c"),
            ("é*ü", "*", "éabü", "ab"),
        ] {
            assert_eq!(rename(&[(from, to)], name), want, "{from} {to}");
        }
        assert_eq!(rename(&[("a.*", "b.*"), ("a.x", "c.x")], "a.x"), "c.x", "the last pair wins");
        assert_eq!(rename(&[("a.x", "c.x"), ("a.*", "b.*")], "a.x"), "b.x", "the last pair wins");
    }

    #[test]
    fn what_does_not_pair_up_is_named() {
        for (from, to) in [
            ("a.*", "b.c"),
            ("a.*", "b.$x$"),
            ("a.$x$", "b.$y$"),
            ("$a$.*", "*.$a$"),
            ("a.$", "b.$"),
            ("", "a"),
            ("$a$.$a$", "$a$.$a$"),
        ] {
            assert!(pair(from, to).is_err(), "{from} {to}");
        }
        let given = |n: usize| vec!["a".to_string(); n];
        for (from, to, words) in [
            (1, 0, "--ns-from is given once, --ns-to not at all: "),
            (2, 3, "--ns-from is given 2 times, --ns-to 3 times: "),
        ] {
            let told = pairs(&given(from), &given(to)).unwrap_err();
            assert!(told.starts_with(words), "{told}");
        }
    }
}
