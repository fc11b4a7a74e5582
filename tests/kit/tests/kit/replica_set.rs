use anyhow::Result;
use bson::{RawDocumentBuf, doc, rawdoc};
use uzima_testkit::mongod::Version;
use uzima_testkit::replica_set::{ReplicaSet, insert_with_gaps, record_ids};

#[tokio::test]
async fn members_have_different_record_ids_and_a_step_down_elects_the_other_member() -> Result<()> {
    let documents: Vec<_> = (0..1000).map(|n| rawdoc! { "_id": n, "v": "x" }).collect();
    let set = ReplicaSet::builder("pair")
        .start_filled(async |client: &mongodb::Client| {
            insert_with_gaps(&client.database("d").collection::<RawDocumentBuf>("c"), &documents).await
        })
        .await?;
    let one = record_ids(&set.members[0], "d", "c").await?;
    let other = record_ids(&set.members[1], "d", "c").await?;
    assert_eq!((one.len(), other.len()), (1000, 1000));
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert_eq!(same, 0, "{:?} {:?}", &one[..3], &other[..3]);

    assert_eq!(set.primary().await?, 0);
    assert_eq!(set.stepdown().await?, 1);
    let client = set.client().await?;
    client.database("d").collection("c").insert_one(doc! { "_id": 1000 }).await?;
    Ok(())
}

#[tokio::test]
async fn with_an_arbiter_a_killed_primary_is_replaced() -> Result<()> {
    let mut set = ReplicaSet::builder("trio").arbiter().auth().start().await?;
    let old = set.primary().await?;
    set.members[old].kill();
    assert_eq!(set.primary().await?, 1 - old);
    let names = set.client().await?.list_database_names().await?;
    assert!(names.contains(&"admin".to_owned()), "{names:?}");
    Ok(())
}

#[tokio::test]
async fn members_of_two_versions_form_a_set_and_the_older_takes_over() -> Result<()> {
    let set = ReplicaSet::builder("mixed")
        .versions(Version::V6_0_27, Version::V5_0_32)
        .members(|member| member.compatibility("5.0"))
        .start_filled(async |client: &mongodb::Client| {
            client.database("d").collection("c").insert_one(doc! { "_id": 1 }).await?;
            Ok(())
        })
        .await?;
    assert_eq!((set.primary().await?, set.stepdown().await?), (0, 1));
    for (member, version) in set.members.iter().zip(["6.0.27", "5.0.32"]) {
        let build =
            member.direct_client().await?.database("admin").run_command(doc! { "buildInfo": 1 }).await?;
        assert_eq!(build.get_str("version")?, version);
    }
    let things = set.client().await?.database("d").collection::<bson::Document>("c");
    assert_eq!(things.count_documents(doc! {}).await?, 1);
    Ok(())
}
