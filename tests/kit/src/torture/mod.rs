//! Fills a server with data that breaks backup tools: every BSON type, odd names, every kind of collection and
//! index, documents that their own validator would refuse, and documents of 16 MiB.
//!
//! An older server gets fewer kinds of collection: [`Holds`] lists them by feature compatibility version.

pub mod indexes;
mod kinds;
pub mod types;
pub mod users;

use anyhow::{Context, Result};
use bson::{RawDocumentBuf, doc};
use mongodb::Client;

use crate::raw;

/// The databases that [`fill`] drops and creates again.
pub const DATABASES: [&str; 6] = ["types", "names", "opts", "indexes", "shop", "big"];

/// Collection names that programs may mistake for a path, a pattern, a line or a string literal.
pub const ODD_NAMES: [&str; 16] = [
    "plain",
    "with space",
    "with/slash",
    "with%percent",
    "with+plus",
    "with*star",
    "with\nnewline",
    "ünï漢😀",
    "a.b.c",
    "UPPER",
    "upper",
    "back\\slash",
    "quo\"te's",
    "semi;colon",
    "~tilde",
    "(paren)",
];

/// The parts to leave out.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// `big.docs` with two documents of almost 16 MiB.
    pub big: bool,
    /// Users and a role.
    pub users: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { big: true, users: true }
    }
}

/// The kinds of collection that only newer servers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holds {
    /// `opts.weather`; since 5.0.
    pub time_series: bool,
    /// `opts.clustered`; since 5.3.
    pub clustered: bool,
    /// `opts.images`; since 6.0.
    pub pre_and_post_images: bool,
}

impl Holds {
    /// The kinds that a server with this feature compatibility version, such as `5.0`, supports.
    pub fn of(compatibility: &str) -> Result<Holds> {
        let (major, minor) = compatibility.split_once('.').context("not a version")?;
        let version: (u32, u32) = (major.parse()?, minor.parse()?);
        Ok(Holds {
            time_series: version >= (5, 0),
            clustered: version >= (5, 3),
            pre_and_post_images: version >= (6, 0),
        })
    }

    async fn ask(client: &Client) -> Result<Holds> {
        let command = doc! { "getParameter": 1, "featureCompatibilityVersion": 1 };
        let answer = client.database("admin").run_command(command).await?;
        Holds::of(answer.get_document("featureCompatibilityVersion")?.get_str("version")?)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Collection,
    View,
    TimeSeries,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Namespace {
    pub database: String,
    pub collection: String,
    pub kind: Kind,
    /// The documents that `find` returns; for a view, the documents of its source that it shows.
    pub documents: u64,
}

/// The content that [`fill`] created. It is counted here, not read from the server.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    pub namespaces: Vec<Namespace>,
    /// `database.user`.
    pub users: Vec<String>,
    /// `database.role`.
    pub roles: Vec<String>,
}

impl Inventory {
    fn add(&mut self, database: &str, collection: &str, kind: Kind, documents: u64) {
        let (database, collection) = (database.to_owned(), collection.to_owned());
        self.namespaces.push(Namespace { database, collection, kind, documents });
    }
}

/// Creates everything that the server supports.
pub async fn fill(client: &Client) -> Result<Inventory> {
    fill_with(client, Options::default()).await
}

/// Creates everything that the server supports, except the parts that the options leave out.
pub async fn fill_with(client: &Client, options: Options) -> Result<Inventory> {
    let mut made = Inventory::default();
    let holds = Holds::ask(client).await.context("the feature compatibility version")?;
    raw::drop_databases(client, &DATABASES).await?;
    types::fill(client, &mut made).await.context("types")?;
    names(client, &mut made).await.context("names")?;
    kinds::fill(client, holds, &mut made).await.context("kinds of collection")?;
    indexes::fill(client, &mut made).await.context("indexes")?;
    shop(client, &mut made).await.context("shop")?;
    if options.users {
        users::fill(client, &mut made).await.context("users")?;
    }
    if options.big {
        big(client, &mut made).await.context("big documents")?;
    }
    Ok(made)
}

/// All odd names, and two long names: more than 200 characters, and more than 200 bytes in fewer characters.
pub fn all_names() -> Vec<String> {
    let long = ["L".repeat(200), "ü".repeat(110), "x/".repeat(100)];
    ODD_NAMES.iter().map(|&name| name.to_owned()).chain(long).collect()
}

async fn names(client: &Client, made: &mut Inventory) -> Result<()> {
    let database = client.database("names");
    for name in all_names() {
        let document = bson::rawdoc! { "_id": 1, "name": name.as_str() };
        raw::insert(&database, &name, &[document.as_bytes()]).await.with_context(|| format!("{name:?}"))?;
        made.add("names", &name, Kind::Collection, 1);
    }
    Ok(())
}

async fn shop(client: &Client, made: &mut Inventory) -> Result<()> {
    let database = client.database("shop");
    let code = raw::document(&[
        raw::element(2, b"_id", raw::string("f")),
        raw::element(13, b"value", raw::string("function(x){return x+1}")),
    ]);
    raw::insert(&database, "system.js", &[code]).await?;
    made.add("shop", "system.js", Kind::Collection, 1);
    let orders: Vec<_> =
        (0..1000).map(|n| bson::rawdoc! { "_id": n, "total": f64::from(n) * 1.5 }.into_bytes()).collect();
    raw::insert(&database, "orders", &orders).await?;
    let index = doc! { "key": { "total": 1 }, "name": "total_1" };
    database.run_command(doc! { "createIndexes": "orders", "indexes": [index] }).await?;
    made.add("shop", "orders", Kind::Collection, 1000);
    Ok(())
}

/// Two documents of almost 16 MiB: one more byte of framing around them and a command body is too large.
async fn big(client: &Client, made: &mut Inventory) -> Result<()> {
    let text = |letter: &str| letter.repeat((16 << 20) - 60);
    let documents: Vec<RawDocumentBuf> = vec![
        bson::rawdoc! { "_id": 1, "s": text("x") },
        bson::rawdoc! { "_id": 2, "s": text("y") },
        bson::rawdoc! { "_id": 3 },
    ];
    let documents: Vec<_> = documents.into_iter().map(RawDocumentBuf::into_bytes).collect();
    raw::insert(&client.database("big"), "docs", &documents).await?;
    made.add("big", "docs", Kind::Collection, 3);
    Ok(())
}
