use bson::rawdoc;

use super::*;

#[test]
fn users_without_an_authschema_document_have_the_current_format() {
    let compatibility = rawdoc! {"_id": "featureCompatibilityVersion", "version": "8.2"};
    let schema = |version: bson::RawBson| rawdoc! {"_id": "authSchema", "currentVersion": version};
    for versions in [
        vec![],
        vec![compatibility.clone()],
        vec![compatibility.clone(), schema(5.into())],
        vec![schema(3_i64.into())],
    ] {
        assert!(check_schema(&versions).is_ok(), "{versions:?}");
    }
    for versions in [vec![schema(1.into())], vec![compatibility, schema("5".into())]] {
        let error = check_schema(&versions).unwrap_err();
        assert!(error.next_step().unwrap().contains("--no-users"), "{versions:?}");
    }
}
