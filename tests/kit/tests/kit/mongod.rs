use anyhow::Result;
use bson::doc;
use uzima_testkit::mongod::{Mongod, ROOT_PASSWORD, ROOT_USER, Version, binary, connect};

#[tokio::test]
async fn a_lone_server_keeps_its_data_over_a_kill_and_is_gone_after_drop() -> Result<()> {
    let mut server = Mongod::builder().start().await?;
    let things = server.client().await?.database("d").collection::<bson::Document>("c");
    things.insert_one(doc! { "_id": 1 }).await?;
    // As after a crash: what was journaled must still be there.
    server.client().await?.database("admin").run_command(doc! { "fsync": 1 }).await?;
    let first = server.pid().unwrap();
    server.kill();
    assert_eq!(server.pid(), None);
    server.restart().await?;
    assert_ne!(server.pid(), Some(first));
    assert_eq!(things.count_documents(doc! {}).await?, 1);

    let (pid, dir) = (server.pid().unwrap(), server.dir().to_owned());
    assert!(dir.exists());
    drop(server);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(!dir.exists());
    Ok(())
}

#[tokio::test]
async fn a_set_with_users_refuses_strangers_and_steps_down() -> Result<()> {
    let mut server = Mongod::builder().replica_set("rs0").auth().start().await?;
    let names = server.client().await?.list_database_names().await?;
    assert!(names.contains(&"local".to_owned()), "{names:?}");
    let anonymous = connect(&server.uri_anonymous()).await?;
    let refused = anonymous.list_database_names().await.unwrap_err();
    assert_eq!(code(&refused), Some(13), "{refused}");
    let wrong = connect(&server.uri_as(ROOT_USER, &format!("{ROOT_PASSWORD}x"), "admin")).await?;
    assert!(wrong.list_database_names().await.unwrap_err().to_string().contains("Authentication failed"));

    server.create_user("gül@x", "p:/%", &[("read", "shop"), ("readWrite", "other")]).await?;
    let limited = connect(&server.uri_as("gül@x", "p:/%", "admin")).await?;
    limited.database("other").collection("c").insert_one(doc! { "_id": 1 }).await?;
    let refused = limited.database("shop").collection("c").insert_one(doc! { "_id": 1 }).await.unwrap_err();
    assert_eq!(code(&refused), Some(13), "{refused}");

    server.stepdown(1).await?;
    server.wait_for_primary().await?;
    server.stop()?;
    server.restart().await?;
    server.wait_for_primary().await?;
    let kept = server.client().await?.database("other").collection::<bson::Document>("c");
    assert_eq!(kept.count_documents(doc! {}).await?, 1);
    Ok(())
}

#[tokio::test]
async fn a_client_needs_tls_and_the_ca() -> Result<()> {
    let server = Mongod::builder().tls().start().await?;
    server.client().await?.list_database_names().await?;
    let plain = format!("mongodb://{}/?directConnection=true&serverSelectionTimeoutMS=1500", server.host());
    assert!(mongodb::Client::with_uri_str(&plain).await?.list_database_names().await.is_err());
    let without_ca = mongodb::Client::with_uri_str(plain + "&tls=true").await?;
    let error = without_ca.list_database_names().await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    Ok(())
}

#[tokio::test]
async fn each_pinned_version_starts_as_a_replica_set_with_users_and_tls() -> Result<()> {
    for version in Version::ALL {
        let server = Mongod::builder().version(version).replica_set("rs0").auth().tls().start().await?;
        let admin = server.client().await?.database("admin");
        let build = admin.run_command(doc! { "buildInfo": 1 }).await?;
        assert_eq!(build.get_str("version")?, version.as_str());
        assert_eq!(compatibility(&admin).await?, version.compatibility());
    }
    Ok(())
}

#[tokio::test]
async fn a_server_accepts_an_older_feature_compatibility_version() -> Result<()> {
    let server = Mongod::builder().version(Version::V6_0_27).compatibility("5.0").start().await?;
    assert_eq!(compatibility(&server.client().await?.database("admin")).await?, "5.0");
    server.set_compatibility("6.0").await?;
    assert_eq!(compatibility(&server.client().await?.database("admin")).await?, "6.0");
    Ok(())
}

#[test]
fn a_list_of_versions_may_name_only_versions_of_the_kit() {
    let list = Version::parse_list("6.0.27, 5.0.32,6.0.27").unwrap();
    assert_eq!(list, [Version::V5_0_32, Version::V6_0_27]);
    let error = format!("{:#}", Version::parse_list("5.0.32,7.0.1").unwrap_err());
    assert!(error.contains("UZIMA_TEST_VERSIONS") && error.contains("7.0.1"), "{error}");
    assert!(error.contains("4.4.2, 5.0.32, 6.0.5, 6.0.27"), "{error}");
}

#[test]
fn a_missing_library_names_its_package() {
    let text =
        "/x/mongod: error while loading shared libraries: libcurl.so.4: cannot open shared object file";
    assert!(binary::missing_library(text).unwrap().ends_with("install the package libcurl4"));
    assert_eq!(binary::missing_library("Address already in use"), None);
}

fn code(error: &mongodb::error::Error) -> Option<i32> {
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

async fn compatibility(admin: &mongodb::Database) -> Result<String> {
    let get = doc! { "getParameter": 1, "featureCompatibilityVersion": 1 };
    let answer = admin.run_command(get).await?;
    Ok(answer.get_document("featureCompatibilityVersion")?.get_str("version")?.to_owned())
}
