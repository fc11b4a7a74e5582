//! After the instant of the base, updates and deletes must find their documents, so writes to one document that went through
//! two lanes would show.

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Timestamp, doc};
use mongodb::{Client, ClientSession};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngExt, SeedableRng};

use super::support::*;
use crate::cli::support::{Home, run};
use crate::replay::lanes::equal_ids;

/// Groups of `_id`s that are equal in an index.
fn ids() -> Vec<Vec<Bson>> {
    let binary = Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![0, 1] });
    let at = Bson::Timestamp(Timestamp { time: 1, increment: 1 });
    let singles = [
        Bson::Null,
        Bson::Boolean(true),
        Bson::Boolean(false),
        Bson::ObjectId(ObjectId::from_bytes([7; 12])),
        Bson::DateTime(DateTime::from_millis(1)),
        at,
        binary,
        Bson::MinKey,
        Bson::MaxKey,
        Bson::Int64(i64::MAX),
        Bson::Document(doc! {}),
        Bson::Document(doc! {"a": [], "b": Bson::Null}),
    ];
    let far = vec![Bson::Int64(-(1 << 53) - 2), Bson::Double(-((1_u64 << 53) as f64) - 2.0)];
    equal_ids().into_iter().chain([far]).chain(singles.map(|one| vec![one])).collect()
}

/// Writes random documents of a few, so that most writes are to documents that another one has just written.
struct LaneWriter {
    client: Client,
    random: StdRng,
    ids: Vec<Vec<Bson>>,
    n: i32,
}

impl LaneWriter {
    fn id(&mut self, collection: &str) -> Bson {
        match collection {
            "collated" => ["a", "A", "á", "Á", "b"].choose(&mut self.random).copied().expect("an id").into(),
            // Equal, because a collation also counts within documents.
            "nested" => {
                let words = ["x", "X"].map(|word| Bson::Document(doc! {"w": word, "n": 1}));
                words.choose(&mut self.random).cloned().expect("an id")
            }
            _ => {
                let group = self.ids.choose(&mut self.random).expect("a group");
                group.choose(&mut self.random).cloned().expect("an id")
            }
        }
    }

    /// Writes one document, or a whole batch in one command.
    async fn write(&mut self, mut session: Option<&mut ClientSession>) {
        self.n += 1;
        let (n, db) = (self.n, self.client.database("live"));
        let collection = ["plain", "plain", "plain", "plain", "other", "collated", "nested", "capped"]
            .choose(&mut self.random)
            .filter(|name| **name != "capped" || session.is_none());
        let collection = *collection.unwrap_or(&"plain");
        let command = match self.random.random_range(0..8) {
            _ if collection == "capped" => doc! {"insert": collection, "documents": [{"_id": n}]},
            0 | 1 => {
                let gone: Vec<Document> = (0..self.random.random_range(1..4))
                    .map(|_| doc! {"q": {"_id": self.id(collection)}, "limit": 1})
                    .collect();
                doc! {"delete": collection, "deletes": gone}
            }
            2 => {
                doc! {"update": collection, "updates": [{"q": {"_id": self.id(collection)}, "u": {"$set": {"n": n}}}]}
            }
            3 => {
                let whole = doc! {"q": {"_id": self.id(collection)}, "u": {"whole": n}};
                doc! {"update": collection, "updates": [whole]}
            }
            _ => {
                let many: Vec<Document> = (0..self.random.random_range(1..6))
                    .map(|_| doc! {"q": {"_id": self.id(collection)}, "u": {"$push": {"all": n}}, "upsert": true})
                    .collect();
                doc! {"update": collection, "updates": many}
            }
        };
        let run = db.run_command(command.clone());
        let done = match session.take() {
            Some(session) => run.session(session).await,
            None => run.await,
        };
        let done = done.unwrap_or_else(|e| panic!("{command}: {e}"));
        assert!(!done.contains_key("writeErrors"), "{command}: {done}");
    }

    async fn transaction(&mut self) {
        let mut session = self.client.start_session().await.expect("a session");
        session.start_transaction().await.expect("a transaction");
        for _ in 0..self.random.random_range(1..6) {
            self.write(Some(&mut session)).await;
        }
        session.commit_transaction().await.expect("a commit");
    }
}

/// With `UZIMA_TEST_FULL=1`: thirty times as many writes and ten times as many moments.
#[tokio::test(flavor = "multi_thread")]
async fn lanes_lead_to_the_same_documents_as_the_order_of_the_oplog() {
    let (writes, moments) = match std::env::var_os("UZIMA_TEST_FULL") {
        Some(_) => (90_000, 30),
        None => (3_000, 3),
    };
    let seed = std::env::var("UZIMA_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().next_u64());
    println!("UZIMA_TEST_SEED={seed}, {writes} writes, {moments} moments");
    let ((server, client), home) = (set(None).await, Home::new());
    let mut writer =
        LaneWriter { client: client.clone(), random: StdRng::seed_from_u64(seed), ids: ids(), n: 0 };
    let collation = doc! {"locale": "en", "strength": 1};
    let create = vec![
        doc! {"create": "plain"},
        doc! {"create": "other"},
        doc! {"create": "collated", "collation": collation.clone()},
        doc! {"create": "nested", "collation": collation},
        doc! {"create": "capped", "capped": true, "size": 1 << 20, "max": 300},
    ];
    commands(&client, create).await;
    for _ in 0..200 {
        writer.write(None).await;
    }
    mark(&client).await;
    backup(&home, &server.uri(), if seed.is_multiple_of(2) { "oplog" } else { "snapshot" });
    let mut recorded = Vec::new();
    for _ in 0..moments {
        for _ in 0..writes / moments {
            match writer.random.random_range(0..10) {
                0 => writer.transaction().await,
                _ => writer.write(None).await,
            }
        }
        let at = mark(&client).await;
        recorded.push((at, read_as_of(&client, None).await.expect("the source")));
        oplog(&home, &server.uri());
    }
    let (target, live) = set(None).await;
    for (at, wanted) in &recorded {
        run(&mut restore(&home, &target, &["--at", &text(*at)])).ends(0);
        assert_eq!(differences_from(&live, wanted).await, Vec::<String>::new(), "UZIMA_TEST_SEED={seed}");
        clear(&live).await;
    }
}
