//! Keys, and stock `age`.

use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bson::doc;
use mongodb::Client;
use tempfile::TempDir;
use uzima_backup::base::keys::{Identities, IdentityFile};
use uzima_backup::base::secret::Secret;
use uzima_backup::model::manifest::Manifest;
use uzima_testkit::mongod::Mongod;

use crate::cli::support::{Home, bare, run};

pub const FORMATS: [&str; 4] = ["tar.gz", "tar.zst", "archive.gz", "archive.zst"];

/// A part of every name and of every document on [`server`].
pub const CANARY: &str = "canary";

/// An identity file that `keygen` wrote, and its recipient.
#[derive(Debug, Clone)]
pub struct Key {
    pub file: PathBuf,
    pub recipient: String,
}

impl Key {
    /// Makes a key in this folder.
    pub fn new(folder: &Path, name: &str) -> Key {
        let file = folder.join(name);
        let ran = run(bare().arg("keygen").arg("--out").arg(&file)).ends(0);
        let recipient = ran.stdout.lines().next().expect("a recipient").to_string();
        Key { file, recipient }
    }

    pub fn identities(&self) -> Identities {
        IdentityFile::read(&self.file).and_then(|file| file.identities(None)).expect("an identity")
    }
}

/// Runs a program of the Debian package `age` with this input. Returns its standard output.
pub fn stock(program: &str, args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program} is needed ({e}): apt-get install age"));
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    // A thread of its own writes, because both pipes can be full.
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("it ends");
    writing.join().expect("the writer ends");
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A replica set with two collections, an index, a validator and a view. Every name has the canary.
pub async fn server() -> Mongod {
    filled(Mongod::builder().replica_set("rs0").start().await.expect("mongod")).await
}

/// The same data on a single server.
pub async fn standalone() -> Mongod {
    filled(Mongod::builder().start().await.expect("mongod")).await
}

async fn filled(server: Mongod) -> Mongod {
    let database = server.client().await.expect("a client").database("canaryshop");
    let validator = doc! {"canaryfield": {"$ne": "canaryrefused"}};
    database.create_collection("canaryrows").validator(validator).await.expect("a collection");
    for (name, rows) in [("canaryrows", 300), ("canaryfew", 3)] {
        let rows = (0..rows).map(|n| doc! {"_id": n, "canaryfield": format!("canary {n} of {name}")});
        database.collection(name).insert_many(rows).await.expect("rows");
    }
    let index = doc! {"key": {"canaryfield": 1}, "name": "canaryindex"};
    let indexes = doc! {"createIndexes": "canaryrows", "indexes": [index]};
    database.run_command(indexes).await.expect("an index");
    let view =
        doc! {"create": "canaryview", "viewOn": "canaryrows", "pipeline": [{"$match": {"canaryfield": 1}}]};
    database.run_command(view).await.expect("a view");
    server
}

/// A folder with backups, and the keys of their recipients.
pub struct Encrypted {
    pub home: Home,
    keys: TempDir,
    /// The key of the first recipient.
    pub key: Key,
    /// The key of the second recipient.
    pub offline: Key,
}

impl Encrypted {
    pub fn new() -> Encrypted {
        let keys = TempDir::new().expect("a folder");
        let (key, offline) = (Key::new(keys.path(), "a.key"), Key::new(keys.path(), "b.key"));
        Encrypted { home: Home::new(), keys, key, offline }
    }

    /// The path of a further file beside the keys.
    pub fn file(&self, name: &str) -> PathBuf {
        self.keys.path().join(name)
    }

    /// A file with the first key, encrypted with this passphrase.
    pub fn protected(&self, name: &str, passphrase: &str) -> PathBuf {
        let mut recipient = age::scrypt::Recipient::new(Secret::from(passphrase.to_string()));
        // Otherwise, each use takes a second.
        recipient.set_work_factor(4);
        let key = std::fs::read(&self.key.file).expect("a key");
        let file = self.file(name);
        std::fs::write(&file, age::encrypt(&recipient, &key).expect("encrypted")).expect("a file");
        file
    }

    /// The tool for the encrypted job `nightly` of a server.
    pub fn tool(&self, uri: &str) -> Command {
        let mut command = self.home.to_dir(uri);
        command.env("BACKUP_JOB", "nightly");
        command.env("BACKUP_RECIPIENTS", format!("{}, {}", self.key.recipient, self.offline.recipient));
        command
    }

    /// Runs `oplog`, which must end with this exit code. Returns its JSON.
    #[track_caller]
    pub fn oplog(&self, uri: &str, code: i32) -> serde_json::Value {
        run(self.tool(uri).args(["oplog", "--json"])).ends(code).json()
    }

    /// Makes a backup. Returns the manifest in the store.
    pub fn backup(&self, uri: &str, args: &[&str]) -> Manifest {
        run(self.tool(uri).arg("backup").args(args)).ends(0);
        self.home.manifests().pop().expect("a manifest")
    }

    /// The complete manifest, as `list ID` shows it with the identity.
    pub fn complete(&self, manifest: &Manifest) -> Manifest {
        let mut list = self.tool(crate::cli::support::NOWHERE);
        list.args(["list", manifest.id.as_str(), "--json", "--identity"]).arg(&self.key.file);
        let details = run(&mut list).ends(0).json();
        Manifest::decode(details["manifest"].to_string().as_bytes()).expect("a manifest")
    }
}

/// Both identities in one file, as a person has them after a change of the recipients.
pub fn both_keys(encrypted: &Encrypted) -> PathBuf {
    let both = encrypted.file("both.key");
    let keys = [&encrypted.key, &encrypted.offline];
    let keys = keys.map(|key| std::fs::read_to_string(&key.file).expect("a key"));
    std::fs::write(&both, keys.concat()).expect("a file");
    both
}

/// Inserts documents with the canary.
pub async fn insert(client: &Client, ids: Range<i32>) {
    let rows = client.database("canaryshop").collection("canaryrows");
    let documents = ids.map(|n| doc! {"_id": n, "canaryfield": format!("canary {n}")});
    rows.insert_many(documents).await.expect("rows");
}

/// The names of the files of a backup, sorted.
pub fn names(home: &Home, manifest: &Manifest) -> Vec<String> {
    let of_backup = home.files().into_iter().filter(|file| file.contains(manifest.id.as_str()));
    of_backup.map(|file| file.rsplit_once('/').expect("a folder").1.to_string()).collect()
}

/// Asserts that no file in the folder of backups has the canary.
#[track_caller]
pub fn assert_private(home: &Home) {
    for file in home.files() {
        let bytes = std::fs::read(home.backups().join(&file)).expect("a file");
        let found = bytes.windows(CANARY.len()).any(|window| window.eq_ignore_ascii_case(CANARY.as_bytes()));
        assert!(!found, "{file} has the canary: {}", String::from_utf8_lossy(&bytes));
    }
}
