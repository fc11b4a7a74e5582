use anyhow::Result;
use bson::doc;
use uzima_testkit::mongod::{Mongod, ROOT_PASSWORD, ROOT_USER, binary, connect};

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
async fn tls_is_required_and_the_ca_is_what_lets_a_client_in() -> Result<()> {
    let server = Mongod::builder().tls().start().await?;
    server.client().await?.list_database_names().await?;
    let plain = format!("mongodb://{}/?directConnection=true&serverSelectionTimeoutMS=1500", server.host());
    assert!(mongodb::Client::with_uri_str(&plain).await?.list_database_names().await.is_err());
    let without_ca = mongodb::Client::with_uri_str(plain + "&tls=true").await?;
    let error = without_ca.list_database_names().await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    Ok(())
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
