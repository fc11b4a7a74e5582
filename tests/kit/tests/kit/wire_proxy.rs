use std::time::{Duration, Instant};

use anyhow::Result;
use bson::{RawDocumentBuf, doc, oid::ObjectId, rawdoc};
use mongodb::error::{Error, ErrorKind};
use mongodb::{Client, Database};
use uzima_testkit::mongod::{Mongod, connect};
use uzima_testkit::raw;
use uzima_testkit::replica_set::ReplicaSet;
use uzima_testkit::wire_proxy::{Action, CommandError, Malformed, Rule, WireProxy, malform};

const DOCUMENTS: usize = 200;

/// A server with `d.c`, the proxy before it, and a client through the proxy.
async fn behind_a_proxy() -> Result<(Mongod, WireProxy, Client)> {
    let server = Mongod::builder().start().await?;
    let rows: Vec<_> = (0..DOCUMENTS as i32).map(|id| rawdoc! { "_id": id, "t": "x" }.into_bytes()).collect();
    raw::insert(&server.client().await?.database("d"), "c", &rows).await?;
    let proxy = WireProxy::start(&[server.host()])?;
    let client = connect(&proxy.uri(&server.uri())).await?;
    Ok((server, proxy, client))
}

/// Reads `d.c` in batches of 50: a find and three getMores with documents.
async fn read(database: &Database) -> Result<usize, Error> {
    let find =
        rawdoc! { "find": "c", "batchSize": 50, "$_requestResumeToken": true, "hint": { "$natural": 1 } };
    let mut cursor = database.run_raw_cursor_command(find).batch_size(50).await?;
    let mut count = 0;
    while cursor.advance().await? {
        let id = cursor.current().get_i32("_id").map_err(Error::custom)?;
        if id as usize != count {
            return Err(Error::custom(format!("_id {id} after {count} documents")));
        }
        count += 1;
    }
    Ok(count)
}

fn code(error: &Error) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

#[tokio::test]
async fn the_proxy_logs_commands_and_fails_the_named_command() -> Result<()> {
    let (server, proxy, client) = behind_a_proxy().await?;
    let d = client.database("d");
    assert_eq!(read(&d).await?, DOCUMENTS);
    let reads = proxy.commands("find");
    assert_eq!((reads.len(), reads[0].namespace.as_str()), (1, "d.c"));
    let more = proxy.commands("getMore");
    assert!(more.len() >= 3 && more.iter().all(|m| m.namespace == "d.c" && m.cursor == reads[0].cursor));
    assert!(reads[0].cursor.is_some_and(|id| id != 0));
    assert_eq!(reads[0].body.as_ref().unwrap().get_i32("batchSize")?, 50);
    // The client neither compresses nor bypasses the proxy.
    assert!(proxy.log().iter().any(|c| c.is_hello()));
    assert_eq!(proxy.uri("mongodb://elsewhere/"), "mongodb://elsewhere/");

    let second = proxy.add(Rule::on("getMore").namespace("d.*").nth(2).then(Action::fail(43)));
    let other = proxy.add(Rule::on("getMore").namespace("e.*").then(Action::fail(13)));
    assert_eq!(code(&read(&d).await.unwrap_err()), Some(43));
    assert_eq!((proxy.hits(second), proxy.seen(second), proxy.hits(other)), (1, 2, 0));
    assert_eq!(read(&d).await?, DOCUMENTS);

    // `FailAfter`: the server executed the command, although the client got an error.
    proxy.add(Rule::on("insert").then(Action::fail_after(91)));
    let insert = rawdoc! { "insert": "c", "documents": [{ "_id": 1000 }] };
    assert_eq!(code(&d.run_raw_command(insert).await.unwrap_err()), Some(91));
    let direct = server.client().await?.database("d").collection::<RawDocumentBuf>("c");
    assert_eq!(direct.count_documents(doc! { "_id": 1000 }).await?, 1);
    proxy.clear();
    d.run_raw_command(rawdoc! { "insert": "c", "documents": [{ "_id": 1001 }] }).await?;
    Ok(())
}

#[tokio::test]
async fn the_proxy_cuts_stalls_and_refuses_connections() -> Result<()> {
    let (_server, proxy, client) = behind_a_proxy().await?;
    let d = client.database("d");
    for action in [Action::Close, Action::CloseAfter, Action::CutAnswer(0), Action::CutAnswer(700)] {
        let rule = proxy.add(Rule::on("getMore").times(1).then(action.clone()));
        let error = read(&d).await.unwrap_err();
        assert!(matches!(error.kind.as_ref(), ErrorKind::Io(_)), "{action:?}: {error}");
        assert_eq!(proxy.hits(rule), 1);
        assert_eq!(read(&d).await?, DOCUMENTS);
    }
    let rule = proxy.add(Rule::on("find").times(1).then(Action::Stall(Duration::from_millis(400))));
    let start = Instant::now();
    assert_eq!(read(&d).await?, DOCUMENTS);
    assert!(start.elapsed() >= Duration::from_millis(400) && proxy.hits(rule) == 1);

    // A stall does not delay the end of the proxy.
    proxy.add(Rule::on("find").then(Action::Stall(Duration::from_secs(600))));
    let waiting = tokio::spawn({
        let d = d.clone();
        async move { read(&d).await }
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.refuse(true);
    let start = Instant::now();
    drop(proxy);
    assert!(start.elapsed() < Duration::from_secs(5));
    waiting.abort();
    Ok(())
}

#[tokio::test]
async fn the_driver_rejects_every_malformed_answer() -> Result<()> {
    let (_server, proxy, client) = behind_a_proxy().await?;
    let d = client.database("d");
    for how in malform::ALL.into_iter().chain([Malformed::Garbage(2)]) {
        let rule = proxy.add(Rule::on("getMore").times(1).then(Action::Malform(how)));
        let result = tokio::time::timeout(Duration::from_secs(3), read(&d)).await;
        assert_eq!(proxy.hits(rule), 1, "{how:?}");
        match result {
            // The driver does not look at responseTo: one connection has one command under way.
            Ok(result) if how == Malformed::ResponseTo => assert_eq!(result?, DOCUMENTS),
            Ok(result) => assert!(!matches!(result, Ok(DOCUMENTS)), "{how:?} was not noticed"),
            // A driver may wait for bytes that the header announces and that never come.
            Err(_) => assert_eq!(how, Malformed::MessageLength(i32::MAX), "hangs"),
        }
        assert_eq!(read(&d).await?, DOCUMENTS, "after {how:?}");
    }
    Ok(())
}

#[tokio::test]
async fn resume_tokens_can_be_removed_or_unsupported() -> Result<()> {
    let (_server, proxy, client) = behind_a_proxy().await?;
    let d = client.database("d");
    let find =
        rawdoc! { "find": "c", "batchSize": 5, "$_requestResumeToken": true, "hint": { "$natural": 1 } };
    let token =
        |answer: &bson::Document| answer.get_document("cursor").unwrap().contains_key("postBatchResumeToken");
    assert!(token(&d.run_raw_command(find.clone()).await?));
    proxy.add(Rule::on("find").then(Action::without_resume_token()));
    let answer = d.run_raw_command(find.clone()).await?;
    assert!(!token(&answer));
    assert_eq!(answer.get_document("cursor")?.get_array("firstBatch")?.len(), 5);
    proxy.clear();
    let [asked, _] = proxy.without_resume_tokens(40415);
    let error = d.run_raw_command(find).await.unwrap_err();
    assert_eq!(code(&error), Some(40415));
    assert!(error.to_string().contains("'FindCommandRequest.$_requestResumeToken' is an unknown field"));
    assert_eq!(proxy.hits(asked), 1);
    d.run_raw_command(rawdoc! { "find": "c" }).await?;

    let id = ObjectId::from_bytes([7; 12]);
    proxy.add(Rule::on("hello").then(Action::process_id(id)));
    let hello = client.database("admin").run_command(doc! { "hello": 1 }).await?;
    assert_eq!(hello.get_document("topologyVersion")?.get_object_id("processId")?, id);
    Ok(())
}

#[tokio::test]
async fn a_client_of_a_set_stays_on_the_proxy() -> Result<()> {
    let set = ReplicaSet::builder("pair").start().await?;
    let hosts: Vec<_> = set.members.iter().map(Mongod::host).collect();
    let proxy = WireProxy::start(&hosts)?;
    let client = connect(&proxy.uri(&set.uri())).await?;
    let admin = client.database("admin");
    let hello = admin.run_command(doc! { "hello": 1 }).await?;
    let listed: Vec<_> = hello.get_array("hosts")?.iter().filter_map(|host| host.as_str()).collect();
    assert_eq!(listed, [proxy.host(0), proxy.host(1)]);
    let primary = set.primary().await?;
    assert_eq!((hello.get_str("me")?, hello.get_str("primary")?), (proxy.host(primary), proxy.host(primary)));

    client.database("d").collection("c").insert_one(doc! { "_id": 1 }).await?;
    assert_eq!(proxy.commands("insert")[0].member, primary);
    let elected = set.stepdown().await?;
    client.database("d").collection("c").insert_one(doc! { "_id": 2 }).await?;
    assert_eq!(proxy.commands("insert").last().unwrap().member, elected);

    // A proxy that refuses connections looks like a server that is down. Afterwards it works again.
    proxy.refuse(true);
    proxy.close_all();
    let ping = client.database("admin");
    assert!(
        tokio::time::timeout(Duration::from_secs(2), ping.run_command(doc! { "ping": 1 }))
            .await
            .map_or(true, |r| r.is_err())
    );
    proxy.refuse(false);
    ping.run_command(doc! { "ping": 1 }).await?;

    let rule = proxy.add(Rule::on("insert").member(elected).then(Action::Fail(CommandError::new(10107))));
    let insert = rawdoc! { "insert": "c", "documents": [{ "_id": 3 }] };
    assert_eq!(code(&client.database("d").run_raw_command(insert).await.unwrap_err()), Some(10107));
    assert_eq!(proxy.hits(rule), 1);
    proxy.add(Rule::on("hello").member(elected).then(Action::secondary()));
    let direct = connect(&format!("mongodb://{}/?directConnection=true", proxy.host(elected))).await?;
    let hello = direct.database("admin").run_command(doc! { "hello": 1 }).await?;
    assert_eq!((hello.get_bool("isWritablePrimary")?, hello.get_bool("secondary")?), (false, true));
    Ok(())
}
