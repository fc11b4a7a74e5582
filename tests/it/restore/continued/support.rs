//! Restores that are interrupted at a chosen command.

use std::process::{Command, Stdio};
use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mongodb::Client;
use serde_json::Value;
use uzima_testkit::mongod::{Builder, Mongod};
use uzima_testkit::read_all::{Snapshot, read_all};
use uzima_testkit::wire_proxy::{Action, Gate, Rule, WireProxy};

use crate::cli::support::{Home, Ran, TOOL, run};
use crate::restore::support::{Backup, rows};

/// The collections of the backup, in the order in which they are restored.
pub const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

/// A backup of `shop`, and a server to restore into, behind a proxy.
pub struct Case {
    pub home: Home,
    pub wanted: Snapshot,
    pub id: String,
    pub target: Mongod,
    pub proxy: WireProxy,
    pub live: Client,
    source: Mongod,
}

impl Case {
    pub async fn new() -> Case {
        Case::of(Mongod::builder(), Mongod::builder(), &[]).await
    }

    /// A case with these servers; `args` are flags of the backup.
    pub async fn of(source: Builder, target: Builder, args: &[&str]) -> Case {
        let source = source.start().await.expect("mongod");
        let original = source.client().await.expect("a client");
        fill(&original).await;
        let Backup { home, manifest } = Backup::of(&source, args);
        let wanted = read_all(&original).await.expect("the original");
        let target = target.start().await.expect("mongod");
        let proxy = WireProxy::start(&[target.host()]).expect("the proxy");
        let live = target.client().await.expect("a client");
        Case { home, wanted, id: manifest.id.to_string(), target, proxy, live, source }
    }

    /// The server that is backed up, and its URI.
    pub async fn source(&self) -> (Client, String) {
        (self.source.client().await.expect("a client"), self.source.uri())
    }

    /// `restore` with these arguments, through the proxy.
    pub fn tool(&self, args: &[&str]) -> Command {
        let mut command = self.home.to_dir("mongodb://127.0.0.1:1");
        command.env("RESTORE_URI", self.proxy.uri(&self.target.uri())).arg("restore").args(args).arg("--yes");
        command
    }

    /// Restores the latest backup with these flags.
    #[track_caller]
    pub fn restore(&self, args: &[&str], code: i32) -> Ran {
        run(self.tool(&["latest"]).args(args)).ends(code)
    }

    /// Begins to restore the latest backup with these flags, and ends it by a signal at a command.
    pub async fn interrupt(&self, args: &[&str], at: Rule, signal: i32) -> Ran {
        let mut command = self.tool(&["latest"]);
        self.interrupt_command(command.args(args), at, signal).await.expect("it reaches the command")
    }

    /// [`interrupt`] through this proxy.
    pub async fn interrupt_command(&self, command: &mut Command, at: Rule, signal: i32) -> Option<Ran> {
        interrupt(&self.proxy, command, at, signal).await
    }

    /// `restore --kept --json`.
    #[track_caller]
    pub fn kept(&self) -> Value {
        let kept = run(self.tool(&["--kept", "--json"]).env("BACKUP_DIR", "/nowhere")).ends(0).json();
        crate::docs::schema::check("restore-kept", &kept);
        kept
    }

    /// The ids of the interrupted restores.
    #[track_caller]
    pub fn interrupted(&self) -> Vec<String> {
        let kept = self.kept();
        let all = kept["interrupted"].as_array().expect("a list");
        all.iter().map(|one| one["id"].as_str().expect("an id").to_string()).collect()
    }

    /// The differences between target and original, and everything that the restore left beside.
    pub async fn differences(&self) -> Vec<String> {
        differences(&self.wanted, &self.live).await
    }

    pub async fn assert_equal(&self, what: &str) {
        assert_eq!(self.differences().await, Vec::<String>::new(), "{what}");
    }

    /// Drops everything at the target.
    pub async fn empty(&self) {
        for name in self.live.list_database_names().await.expect("names") {
            if !["admin", "config", "local"].contains(&name.as_str()) {
                self.live.database(&name).drop().await.expect("a drop");
            }
        }
    }

    /// The UUID of a collection of `shop`, as a text.
    pub async fn uuid(&self, name: &str) -> String {
        let shop = self.live.database("shop");
        let mut found: Vec<_> = shop
            .list_collections()
            .filter(doc! {"name": name})
            .await
            .expect("a list")
            .try_collect()
            .await
            .expect("a list");
        format!("{:?}", found.pop().expect("it exists").info.uuid.expect("a UUID"))
    }

    /// The number of documents of a collection of `shop`.
    pub async fn count(&self, name: &str) -> u64 {
        self.live
            .database("shop")
            .collection::<Document>(name)
            .count_documents(doc! {})
            .await
            .expect("a count")
    }

    pub fn marks(&self) -> mongodb::Collection<Document> {
        self.live.database("uzima_backup").collection("restores")
    }
}

/// Runs a command, and ends it by a signal at a command of the server. `None` if it ended before.
pub async fn interrupt(proxy: &WireProxy, command: &mut Command, at: Rule, signal: i32) -> Option<Ran> {
    interrupt_at(proxy, command, vec![at], signal).await
}

/// [`interrupt`] at the first of several commands. The others are not answered before the signal either.
pub async fn interrupt_at(
    proxy: &WireProxy,
    command: &mut Command,
    at: Vec<Rule>,
    signal: i32,
) -> Option<Ran> {
    let gate = Gate::default();
    let held: Vec<_> = at.into_iter().map(|at| proxy.add(at.then(Action::Hold(gate.clone())))).collect();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the tool");
    let mut reached = true;
    while held.iter().all(|held| proxy.hits(*held) == 0) {
        if child.try_wait().expect("its state").is_some() {
            reached = false;
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if reached {
        be_quiet(proxy).await;
        // SAFETY: the process is our own child and has not been waited for yet.
        unsafe { libc::kill(child.id() as i32, signal) };
        if signal != libc::SIGKILL {
            // A busy machine takes its time to deliver the signal.
            tokio::time::sleep(Duration::from_millis(300)).await;
            gate.open();
        }
    }
    let ended = child.wait_with_output().expect("its end");
    gate.open();
    proxy.clear();
    // The server may still execute the held command.
    tokio::time::sleep(Duration::from_millis(150)).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let ran = Ran { code: ended.status.code(), stdout: text(ended.stdout), stderr: text(ended.stderr) };
    reached.then_some(ran)
}

/// Waits until the tool sends nothing more: the commands beside the held ones are answered, and those that follow them as well.
async fn be_quiet(proxy: &WireProxy) {
    let sent = || proxy.log().iter().filter(|command| !command.is_hello()).count();
    let (mut before, mut since) = (sent(), 0);
    while since < 10 {
        tokio::time::sleep(Duration::from_millis(25)).await;
        let now = sent();
        since = if now == before { since + 1 } else { 0 };
        before = now;
    }
}

/// The differences between an original and a server. The trials of a run that was killed are left out: a later run drops them when they
/// are a minute old.
pub async fn differences(wanted: &Snapshot, live: &Client) -> Vec<String> {
    let mut lines = wanted.diff(&read_all(live).await.expect("the target"));
    lines.retain(|line| !line.contains("uzima_backup_trial_"));
    lines
}

/// Returns true if these are the differences of a restore that was killed after it removed its mark.
pub fn has_ended(differences: &[String]) -> bool {
    differences.iter().all(|line| line.starts_with("uzima_backup.restores is new"))
}

/// A rule for the first insert into a collection of `shop`.
pub fn insert_into(name: &str) -> Rule {
    Rule::on("insert").namespace(&format!("shop.{name}")).nth(1)
}

/// Writes the original: five collections with an index each, a view, a time series and a function.
async fn fill(client: &Client) {
    for name in NAMES {
        rows(client, "shop", name, 0..40).await;
    }
    let shop = client.database("shop");
    for name in NAMES {
        let index = doc! {"key": {"text": 1}, "name": "by_text", "unique": true};
        shop.run_command(doc! {"createIndexes": name, "indexes": [index]}).await.expect("an index");
    }
    rows(client, "shop", "system.js", 0..3).await;
    shop.run_command(doc! {"create": "z_view", "viewOn": "a", "pipeline": []}).await.expect("a view");
}

/// The command that the tool printed, between the marks of a code text.
#[track_caller]
pub fn printed(ran: &Ran) -> String {
    let (_, rest) =
        ran.stderr.split_once("`uzima-backup restore ").unwrap_or_else(|| panic!("{}", ran.stderr));
    let (words, after) = rest.split_once('`').expect("its end");
    assert!(after.starts_with(" goes on"), "{}", ran.stderr);
    format!("{TOOL} restore {words}")
}

/// Runs a command line with the environment of `of`.
pub fn shell(line: &str, of: &Command) -> Command {
    let mut command = Command::new("/bin/sh");
    command.env_clear().arg("-c").arg(line).stdin(Stdio::null()).current_dir("/");
    for (name, value) in of.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    command
}
