//! Names that a person may have meant.

/// How many are told.
const TOLD: usize = 3;

/// The names nearest to a pattern that matched nothing, nearest first.
pub fn misses<'a>(pattern: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let wanted: String = pattern.to_lowercase().replace(['*', '\\'], "");
    let mut near: Vec<(usize, &str)> =
        names.map(|name| (distance(&wanted, &name.to_lowercase()), name)).collect();
    near.sort();
    near.into_iter().take(TOLD).map(|(_, name)| name.to_string()).collect()
}

/// How many letters have to be changed, added or taken away (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let changed = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(before + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first() {
        assert_eq!((distance("", "abc"), distance("abc", "abc"), distance("kitten", "sitting")), (3, 0, 3));
        let names = ["blog.posts", "shop.orders", "shop.items", "shop.order_lines", "a.b"];
        assert_eq!(misses("shop.Order", names.into_iter())[..2], ["shop.orders", "shop.items"]);
    }
}
