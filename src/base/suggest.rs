//! Suggestions for misspelled names. The distance of two names is the Levenshtein distance of `strsim`. A
//! pattern has a distance of its own, because its `*` matches any text at no cost.

use std::cmp::Reverse;

use strsim::levenshtein;

/// The number of suggestions.
const SUGGESTED: usize = 3;

/// The most wrong letters that a name may have and still be recognised.
const SLIPS: usize = 2;

/// A hint for a pattern that matches none of the namespaces `names`: a pattern for the database of that name,
/// or the nearest names. `None` if there are no names.
pub fn advice<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    let names: Vec<&str> = names.collect();
    let databases = names.iter().filter_map(|name| name.split_once('.').map(|(db, _)| db));
    if let Some(db) = databases.into_iter().find(|db| db.eq_ignore_ascii_case(pattern)) {
        return Some(format!(
            "To select the whole database {db}, write '{db}.*': a pattern must match the full name, database.collection"
        ));
    }
    let misses = misses(pattern, names.into_iter());
    (!misses.is_empty()).then(|| format!("It has {}", misses.join(", ")))
}

/// The names nearest to a pattern that matched nothing, nearest first.
fn misses<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = pattern.to_lowercase();
    // The pattern lacks a database or a collection.
    let wanted: Vec<String> = match wanted.contains('.') {
        true => vec![wanted],
        false => vec![format!("{wanted}.*"), format!("*.{wanted}")],
    };
    first(names, |name| wanted.iter().map(|wanted| distance(wanted, name)).min().unwrap_or_default())
}

/// The names that are nearest to an unknown one, nearest first.
pub fn nearest<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let wanted = wrong.to_lowercase();
    first(names, |name| levenshtein(&wanted, name))
}

/// Returns the names with the smallest distances. `distance` gets a name in lower case.
fn first<'a>(names: impl Iterator<Item = &'a str>, distance: impl Fn(&str) -> usize) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = names.map(|name| (distance(&name.to_lowercase()), name)).collect();
    near.sort();
    near.into_iter().take(SUGGESTED).map(|(_, name)| name).collect()
}

/// The name that a person probably meant by `wrong`; `None` if no name is similar enough.
pub fn meant<'a>(wrong: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // On a tie, prefer the name that shares the longer prefix.
    let shared = |name: &str| name.bytes().zip(wrong.bytes()).take_while(|(a, b)| a == b).count();
    let nearest = names.map(|name| (levenshtein(wrong, name), Reverse(shared(name)), name)).min()?;
    // A short name may have fewer wrong letters.
    (nearest.0 <= SLIPS.min(wrong.len() / 3)).then_some(nearest.2)
}

/// The pattern that matches only this name.
pub fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('*', "\\*").replace('$', "\\$")
}

/// The number of letters to change, add or remove until the pattern matches the name. `*` matches any text,
/// `\` escapes the next letter.
fn distance(pattern: &str, name: &str) -> usize {
    let name: Vec<char> = name.chars().collect();
    let mut row: Vec<usize> = (0..=name.len()).collect();
    let mut letters = pattern.chars();
    while let Some(letter) = letters.next() {
        if letter == '*' {
            for j in 0..name.len() {
                row[j + 1] = row[j + 1].min(row[j]);
            }
            continue;
        }
        let letter = if letter == '\\' { letters.next().unwrap_or(letter) } else { letter };
        let mut before = row[0];
        row[0] += 1;
        for (j, other) in name.iter().enumerate() {
            let changed = before + usize::from(letter != *other);
            before = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(before + 1);
        }
    }
    row[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_different_letters() {
        for (pattern, name, want) in [
            ("", "abc", 3),
            ("abc", "abc", 0),
            ("kitten", "sitting", 3),
            ("a*", "abc", 0),
            ("*c", "abc", 0),
            ("x*c", "abc", 1),
            (r"a\*", "a*", 0),
            (r"a\*", "abc", 2),
            ("ab*ba", "aba", 1),
        ] {
            assert_eq!(distance(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn nearest_namespaces_come_first() {
        let names = ["blog.posts", "shop.orders", "shop.items", "shop.order_lines", "a.b"];
        let misses = |pattern| misses(pattern, names.into_iter());
        assert_eq!(misses("shop.Order")[..2], ["shop.orders", "shop.items"]);
        assert_eq!(misses("ordres")[0], "shop.orders");
        assert_eq!(misses("blgo.*")[0], "blog.posts", "* matches any text");
        assert_eq!(misses("*.item")[0], "shop.items");
    }

    #[test]
    fn nearest_names_come_first() {
        let names = ["blog", "shop", "crm", "a*"];
        assert_eq!(nearest("Shopp", names.into_iter())[0], "shop");
        assert_eq!(nearest("*", names.into_iter())[0], "a*", "no pattern");
    }

    #[test]
    fn a_database_name_gets_the_pattern_for_its_collections() {
        let advice = |pattern| advice(pattern, ["blog.posts", "shop.orders"].into_iter()).unwrap();
        assert!(
            advice("shop").starts_with("To select the whole database shop, write 'shop.*'"),
            "{}",
            advice("shop")
        );
        assert!(advice("Shop").contains("'shop.*'"));
        assert_eq!(advice("shop.order"), "It has shop.orders, blog.posts");
        assert_eq!(super::advice("shop", std::iter::empty()), None);
    }

    #[test]
    fn a_misspelled_name_is_recognised() {
        let names = ["dir", "job", "format", "retention_days"];
        for (wrong, want) in [
            ("formt", Some("format")),
            ("fromat", Some("format")),
            ("dirs", Some("dir")),
            ("dir", Some("dir")),
            ("of", None),
            ("retention", None),
            ("*", None),
        ] {
            assert_eq!(meant(wrong, names.into_iter()), want, "{wrong}");
        }
    }
}
