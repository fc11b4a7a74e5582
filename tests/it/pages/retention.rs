//! The policies in docs/retention.md are valid settings.

use uzima_backup::config::file;

use super::{blocks, read};

#[test]
fn its_policies_are_settings() {
    let page = read("docs/retention.md");
    let policies: Vec<_> = blocks(&page).into_iter().filter(|block| block.language == "toml").collect();
    for policy in &policies {
        let values = file::parse("policy", policy.code).unwrap_or_else(|e| panic!("{}", e.chain())).values;
        assert!(values.contains_key("retention_days"), "{}", policy.code);
    }
    assert_eq!(policies.len(), 3);
}
