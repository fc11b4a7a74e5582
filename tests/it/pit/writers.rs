//! Writers of every kind: documents, transactions, and changes of collections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use mongodb::error::Error;
use mongodb::{Client, Collection};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use tokio::sync::RwLock;
use tokio::task::JoinHandle;

use super::support::commands;

/// Writers that run until they are stopped.
pub struct Writers {
    tasks: Vec<JoinHandle<()>>,
    ended: Arc<AtomicBool>,
    pub gates: Arc<Gates>,
}

/// Whoever locks a gate for writing stops the writers that lock it for reading.
#[derive(Default)]
pub struct Gates {
    /// Of the writers that change collections, or write to capped ones.
    pub shapes: RwLock<()>,
    /// Of all other writers.
    pub documents: RwLock<()>,
}

impl Writers {
    /// `series` is false for a server without time series.
    pub async fn start(client: &Client, seed: u64, series: bool) -> Writers {
        let mut create = vec![
            doc! {"create": "rows"},
            doc! {"create": "other"},
            doc! {"create": "capped", "capped": true, "size": 64 << 10, "max": 200},
            doc! {"create": "collated", "collation": {"locale": "en", "strength": 1}},
            doc! {"createIndexes": "rows", "indexes": [{"key": {"code": 1}, "name": "code", "unique": true, "sparse": true}]},
        ];
        if series {
            create.push(doc! {"create": "weather", "timeseries": {"timeField": "at", "metaField": "place"}});
        }
        commands(client, create).await;
        let (ended, gates) = (Arc::new(AtomicBool::new(false)), Arc::<Gates>::default());
        let mut tasks = Vec::new();
        for n in 0..6 {
            let random = StdRng::seed_from_u64(seed.wrapping_add(n));
            let writer = Writer { client: client.clone(), random, n: 0 };
            let (ended, gates) = (Arc::clone(&ended), Arc::clone(&gates));
            tasks.push(tokio::spawn(async move {
                match n {
                    0 | 1 => writer.documents(n as i32, &ended, &gates.documents).await,
                    2 => writer.transactions(&ended, &gates.documents).await,
                    3 => writer.large(&ended, &gates.documents).await,
                    4 => writer.collections(&ended, &gates.shapes).await,
                    _ => writer.kinds(&ended, &gates.shapes, series).await,
                }
            }));
        }
        Writers { tasks, ended, gates }
    }

    pub async fn stop(self) {
        self.ended.store(true, SeqCst);
        for task in self.tasks {
            task.await.expect("a writer");
        }
    }
}

struct Writer {
    client: Client,
    random: StdRng,
    n: i32,
}

impl Writer {
    fn next(&mut self) -> i32 {
        self.n += 1;
        self.n
    }

    /// One of the ids of this writer.
    fn id(&mut self, writer: i32) -> Bson {
        let n = self.random.random_range(0..300) * 2 + writer;
        match n % 3 {
            0 => Bson::Int32(n),
            1 => Bson::Double(n.into()),
            _ => Bson::String(format!("row {n}")),
        }
    }

    async fn pause(&mut self, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.random.random_range(0..most))).await;
    }

    /// Inserts, updates and deletes single documents. Each writer has its own.
    async fn documents(mut self, writer: i32, ended: &AtomicBool, gate: &RwLock<()>) {
        let db = self.client.database("live");
        while !ended.load(SeqCst) {
            let gate = gate.read().await;
            let (id, n) = (self.id(writer), self.next());
            let rows = db.collection::<Document>(["rows", "other"][self.random.random_range(0..2)]);
            let key = doc! {"_id": id};
            match self.random.random_range(0..6) {
                0 => {
                    rows.delete_one(key).await.expect("a delete");
                }
                1 => drop(
                    rows.replace_one(key, doc! {"n": n, "all": []}).upsert(true).await.expect("a document"),
                ),
                2 => {
                    let many = doc! {"n": {"$lt": n - 500}, "writer": writer};
                    rows.delete_many(many).await.expect("deletes");
                }
                3 => {
                    let change = doc! {"$push": {"all": n}, "$set": {"a.b": n}, "$unset": {"code": 1}};
                    drop(rows.update_one(key, change).await.expect("an update"));
                }
                _ => {
                    let change = doc! {"$set": {"n": n, "writer": writer, "code": format!("{writer} {n}")}};
                    drop(rows.update_one(key, change).upsert(true).await.expect("an upsert"));
                }
            }
            drop(gate);
            self.pause(4).await;
        }
    }

    /// Transactions of several documents in two databases. Some are aborted, and some stay open for a while.
    async fn transactions(mut self, ended: &AtomicBool, gate: &RwLock<()>) {
        let accounts = self.client.database("live").collection::<Document>("accounts");
        let moves = self.client.database("second").collection::<Document>("moves");
        for id in 0..20 {
            accounts.insert_one(doc! {"_id": id, "sum": 100}).await.expect("an account");
        }
        moves.insert_one(doc! {"_id": -1}).await.expect("a move");
        while !ended.load(SeqCst) {
            let gate = gate.read().await;
            tolerate_abort(self.transfer(&accounts, &moves).await);
            drop(gate);
            self.pause(20).await;
        }
    }

    /// A transaction. The server may abort it, for example if it waits for a lock.
    async fn transfer(
        &mut self,
        accounts: &Collection<Document>,
        moves: &Collection<Document>,
    ) -> Result<(), Error> {
        let n = self.next();
        let (from, to) = (self.random.random_range(0..10), self.random.random_range(10..20));
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        let moved = |sum: i32| doc! {"$inc": {"sum": sum}};
        accounts.update_one(doc! {"_id": from}, moved(-1)).session(&mut session).await?;
        self.pause(40).await;
        accounts.update_one(doc! {"_id": to}, moved(1)).session(&mut session).await?;
        moves.insert_one(doc! {"_id": n, "from": from, "to": to}).session(&mut session).await?;
        if n > 20 {
            moves.delete_one(doc! {"_id": n - 20}).session(&mut session).await?;
        }
        match self.random.random_range(0..8) {
            0 => session.abort_transaction().await,
            _ => session.commit_transaction().await,
        }
    }

    /// Transactions of more than 16 MiB.
    async fn large(mut self, ended: &AtomicBool, gate: &RwLock<()>) {
        let rows = self.client.database("second").collection::<Document>("large");
        rows.insert_one(doc! {"_id": -1}).await.expect("a row");
        while !ended.load(SeqCst) {
            let gate = gate.read().await;
            tolerate_abort(self.large_transaction(&rows).await);
            drop(gate);
            for _ in 0..20 {
                if !ended.load(SeqCst) {
                    self.pause(400).await;
                }
            }
        }
    }

    async fn large_transaction(&mut self, rows: &Collection<Document>) -> Result<(), Error> {
        let n = self.next();
        let mut session = self.client.start_session().await?;
        session.start_transaction().await?;
        for part in 0..18 {
            let change = doc! {"$set": {"n": n, "pad": "x".repeat(1 << 20)}};
            rows.update_one(doc! {"_id": part}, change).upsert(true).session(&mut session).await?;
        }
        session.commit_transaction().await
    }

    /// Creates, drops and renames collections, and changes their indexes and options.
    async fn collections(mut self, ended: &AtomicBool, gate: &RwLock<()>) {
        let db = self.client.database("live");
        while !ended.load(SeqCst) {
            let gate = gate.read().await;
            let n = self.next();
            let name = format!("made{}", self.random.random_range(0..3));
            let rows = db.collection::<Document>(&name);
            let run =
                async |command: Document| -> Result<(), Error> { db.run_command(command).await.map(drop) };
            let documents: Vec<Document> = (0..20).map(|id| doc! {"_id": id, "n": n, "of": id % 3}).collect();
            let done = match self.random.random_range(0..10) {
                0 => rows.drop().await,
                1 => {
                    let to = ["renamed", "made0", "made1", "made2"].choose(&mut self.random).expect("a name");
                    let command = doc! {
                        "renameCollection": format!("live.{name}"), "to": format!("live.{to}"), "dropTarget": true,
                    };
                    self.client.database("admin").run_command(command).await.map(drop)
                }
                2 => {
                    let pipeline = vec![doc! {"$set": {"out": n}}, doc! {"$out": "result"}];
                    db.collection::<Document>("accounts").aggregate(pipeline).await.map(drop)
                }
                3 => {
                    let index = doc! {"key": {"of": 1, "n": -1}, "name": "of_n"};
                    run(doc! {"createIndexes": &name, "indexes": [index]}).await
                }
                4 => run(doc! {"dropIndexes": &name, "index": "of_n"}).await,
                5 => run(
                    doc! {"collMod": &name, "validator": {"n": {"$gte": 0}}, "validationLevel": "moderate"},
                )
                .await,
                6 => match db.collection::<Document>("view").drop().await {
                    Ok(()) => {
                        run(doc! {"create": "view", "viewOn": "rows", "pipeline": [{"$match": {"n": n}}]})
                            .await
                    }
                    failed => failed,
                },
                7 => run(doc! {"create": &name, "collation": {"locale": "de"}}).await,
                _ => match rows.delete_many(doc! {}).await {
                    Ok(_) => rows.insert_many(documents).await.map(drop),
                    Err(e) => Err(e),
                },
            };
            // Refused: the collection exists, or does not exist, or is renamed to its own name.
            if let Err(e) = done {
                assert!(e.contains_label("x") || [20, 26, 27, 48].contains(&code(&e)), "{e}");
            }
            drop(gate);
            self.pause(60).await;
        }
    }

    async fn measure(&mut self, n: i32) {
        let weather = self.client.database("live").collection::<Document>("weather");
        let place = ["here", "there"].choose(&mut self.random).expect("a place");
        let at = DateTime::from_millis(1_795_000_000_000 + i64::from(n) * 60_000);
        weather.insert_one(doc! {"at": at, "place": place, "n": n}).await.expect("a measurement");
        if n % 50 == 0 {
            weather.delete_many(doc! {"place": place}).await.expect("a delete");
        }
    }

    /// Writes to capped collections, time series and collections with a collation, and drops a collection.
    async fn kinds(mut self, ended: &AtomicBool, gate: &RwLock<()>, series: bool) {
        let (db, second) = (self.client.database("live"), self.client.database("second"));
        while !ended.load(SeqCst) {
            let n = self.next();
            let gate = gate.read().await;
            if series {
                self.measure(n).await;
            }
            db.collection::<Document>("capped").insert_one(doc! {"_id": n}).await.expect("a document");
            let collated = db.collection::<Document>("collated");
            let id = ["a", "A", "á", "b"].choose(&mut self.random).expect("an id");
            match n % 3 {
                0 => {
                    collated.delete_one(doc! {"_id": id}).await.expect("a delete");
                }
                _ => {
                    let change = doc! {"$set": {"n": n}};
                    let upsert = collated.update_one(doc! {"_id": id}, change).upsert(true);
                    drop(upsert.await.expect("an upsert"));
                }
            }
            let again = second.collection::<Document>("again");
            match n % 40 {
                0 => again.drop().await.expect("a drop"),
                _ => drop(again.insert_one(doc! {"_id": n}).await.expect("a document")),
            }
            drop(gate);
            self.pause(20).await;
        }
    }
}

fn code(error: &Error) -> i32 {
    match error.kind.as_ref() {
        mongodb::error::ErrorKind::Command(failure) => failure.code,
        _ => 0,
    }
}

/// Panics if a transaction failed for another reason than that the server aborted it. An abort writes nothing.
fn tolerate_abort(done: Result<(), Error>) {
    if let Err(e) = done {
        assert!(e.contains_label(mongodb::error::TRANSIENT_TRANSACTION_ERROR), "{e}");
    }
}
