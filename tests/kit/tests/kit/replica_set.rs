use anyhow::Result;
use bson::{RawDocumentBuf, doc, rawdoc};
use uzima_testkit::replica_set::{ReplicaSet, insert_with_gaps, record_ids};

#[tokio::test]
async fn members_have_other_record_ids_and_the_other_is_elected() -> Result<()> {
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
