use uzima_testkit::raw::{elements, get, rewrite};
use uzima_testkit::torture::types;

#[test]
fn rewrite_knows_every_type_and_changes_only_the_named_value() {
    let mut kinds = std::collections::BTreeSet::new();
    for document in types::all_types().into_iter().chain(types::ids()) {
        kinds.extend(elements(&document).unwrap().iter().map(|element| element.0));
        // This visits all values and changes none.
        assert_eq!(rewrite(&document, &["none"], &|_, _| None), document);
        assert_eq!(rewrite(&document, &["v"], &|kind, value| Some((kind, value.to_vec()))), document);
        let without = rewrite(&document, &["v"], &|_, _| None);
        assert!(get(&without, &["v"]).is_none() && get(&without, &["_id"]) == get(&document, &["_id"]));
        for length in 0..document.len() {
            assert!(elements(&document[..length]).is_err());
        }
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), (1..=19).chain([127, 255]).collect::<Vec<u8>>());
}
