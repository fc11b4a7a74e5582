//! The completions offer ids, jobs, places and namespaces that this machine knows, and ask neither the store nor MongoDB.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use uzima_backup::config::place::Place;
use uzima_backup::config::store::{DirOptions, S3Options};
use uzima_backup::store::{DirStore, S3Store, Store};

use uzima_testkit::mongod::Mongod;

use super::support::{Home, TOOL, run};

/// A home with a backup of each of two jobs. Its server is gone, and so is its folder of backups.
struct Remembered {
    home: Home,
    /// The ids of the jobs `nightly` and `weekly`.
    ids: [String; 2],
}

impl Remembered {
    async fn make() -> Remembered {
        let server = Mongod::builder().start().await.expect("mongod");
        let rows = server.client().await.expect("a client").database("shop").collection("orders");
        rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
        let home = Home::new();
        run(home.to_dir(&server.uri()).args(["backup", "--job", "nightly"])).ends(0);
        // A collection that the first backup does not have, and one whose name a shell would expand.
        for name in ["more", "`touch pwned`"] {
            let rows = server.client().await.expect("a client").database("shop").collection(name);
            rows.insert_one(bson::doc! {"_id": 1}).await.expect("a row");
        }
        run(home.to_dir(&server.uri()).args(["backup", "--job", "weekly"])).ends(0);
        run(home.to_dir(&server.uri()).arg("list")).ends(0);
        let mut manifests = home.manifests();
        manifests.sort_by(|a, b| a.job.cmp(&b.job));
        let ids = [manifests[0].id.to_string(), manifests[1].id.to_string()];
        std::fs::rename(home.backups(), home.path().join("unmounted")).expect("another name");
        Remembered { home, ids }
    }

    fn tool(&self) -> Command {
        self.home.to_dir("mongodb://127.0.0.1:1")
    }

    fn offers(&self, words: &[&str]) -> Vec<String> {
        lines(self.tool().arg("__complete").args(words))
    }

    fn file(&self, ending: &str) -> PathBuf {
        let files = std::fs::read_dir(self.home.state().join("places")).expect("the folder");
        let mut paths = files.map(|file| file.expect("a file").path());
        paths.find(|path| path.to_string_lossy().ends_with(ending)).expect("the file")
    }

    /// The proposals of a shell for the last word.
    fn proposed_by_bash(&self, words: &[&str]) -> Vec<String> {
        let script = r#"
            compopt() { :; }
            source "$1"; shift
            function=$(complete -p uzima-backup); function=${function##*-F }; function=${function%% *}
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            "$function" "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
            printf '%s\n' "${COMPREPLY[@]}"
        "#;
        let mut bash = self.shell(Path::new("bash"));
        bash.args(["-c", script, "bash"]).arg(script_of("bash")).arg("uzima-backup").args(words);
        lines(&mut bash)
    }

    /// A shell with the settings of the tool, which finds the tool.
    fn shell(&self, shell: &Path) -> Command {
        let tool = self.tool();
        let settings = tool.get_envs().filter_map(|(name, value)| Some((name, value?)));
        let mut command = Command::new(shell);
        command.current_dir(self.home.path()).env_clear().envs(settings).env("HOME", self.home.path());
        let folder = Path::new(TOOL).parent().expect("a folder");
        command.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
        command
    }
}

/// The completions for a shell.
fn script_of(shell: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("completions/uzima-backup.{shell}"))
}

/// The lines that a command prints. It prints no errors.
fn lines(command: &mut Command) -> Vec<String> {
    let ran = run(command).ends(0);
    assert_eq!(ran.stderr, "", "{command:?}");
    ran.stdout.lines().map(str::to_string).collect()
}

/// Finds a shell on PATH. If it is missing, prints that the test is skipped.
fn find(shell: &str, test: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(shell)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("SKIPPED {test}: {shell} is not on PATH");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_and_jobs_are_offered_from_the_cache_without_store_and_server() {
    let remembered = Remembered::make().await;
    let [nightly, weekly] = &remembered.ids;
    let described = [format!("{weekly}\tweekly"), format!("{nightly}\tnightly")];
    let ids = ["latest", &described[0], &described[1]];
    for command in ["restore", "list", "pin", "unpin", "verify"] {
        let mut offers = remembered.offers(&[command, ""]);
        // Both backups may be of the same second, and then their order is random.
        offers[1..].sort_by_key(|line| !line.ends_with("weekly"));
        assert_eq!(offers, ids, "{command}");
    }
    assert_eq!(remembered.offers(&["restore", "--job", "weekly", ""]), ids[..2]);
    assert_eq!(remembered.offers(&["restore", "--job", "=", "weekly", ""]), ids[..2]);
    assert_eq!(remembered.offers(&["--quiet", "restore", "--job=weekly", "--drop", ""]), ids[..2]);
    for words in [&["list", "--job", ""][..], &["backup", "--job="], &["stats", "--job", "=", ""]] {
        assert_eq!(remembered.offers(words), ["nightly", "weekly"], "{words:?}");
    }
    assert_eq!(remembered.offers(&["cleanup", "--job", "weekly", "--accept", ""]), ids[1..2]);
    let elsewhere = remembered.home.path().join("elsewhere").display().to_string();
    for words in [
        &[][..],
        &[""],
        &["res"],
        &["backup", ""],
        &["restore", "latest", ""],
        &["restore", "--d"],
        &["restore", "--from", ""],
        &["restore", "--frob", ""],
        &["pin", "--reason", ""],
        &["restore", "--dir", &elsewhere, ""],
        &["restore", "--config", &elsewhere, ""],
        &["restore", "--place", "offsite", ""],
        &["timeline", "--from", ""],
    ] {
        assert_eq!(remembered.offers(words), Vec::<String>::new(), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_completes_ids_and_jobs() {
    let remembered = Remembered::make().await;
    let [nightly, weekly] = &remembered.ids;
    assert_eq!(remembered.proposed_by_bash(&["restore", &nightly[..nightly.len() - 1]]), [nightly.as_str()]);
    assert_eq!(remembered.proposed_by_bash(&["restore", "la"]), ["latest"]);
    assert_eq!(remembered.proposed_by_bash(&["verify", "--job", "weekly", "2"]), [weekly.as_str()]);
    assert_eq!(remembered.proposed_by_bash(&["list", "--job", "w"]), ["weekly"]);
    assert_eq!(remembered.proposed_by_bash(&["list", "--job", "="]), ["nightly", "weekly"]);
    // Everything else is as before.
    assert_eq!(remembered.proposed_by_bash(&["restore", "--dry"]), ["--dry-run"]);
    assert_eq!(remembered.proposed_by_bash(&["rest"]), ["restore"]);
    std::fs::remove_dir_all(remembered.home.state()).expect("no state");
    assert_eq!(remembered.proposed_by_bash(&["restore", "la"]), ["latest"]);
    assert_eq!(remembered.offers(&["restore", ""]), Vec::<String>::new());
}

/// The places are those of the settings. The namespaces are those of the backup that the line names, else of the newest one of
/// the job.
#[tokio::test(flavor = "multi_thread")]
async fn places_and_namespaces_are_offered_without_store_and_server() {
    let remembered = Remembered::make().await;
    let [nightly, weekly] = &remembered.ids;
    let config = remembered.home.path().join("config.toml");
    let copies = "[[copies]]\nname = 'offsite'\ndir = '/mnt/x'\n[[copies]]\nname = 'a b'\ndir = '/mnt/y'\n";
    std::fs::write(&config, copies).expect("a file");
    let config = config.to_str().expect("UTF-8");
    for words in [
        &["list", "--place", ""][..],
        &["restore", "--place="],
        &["copy", "--to", ""],
        &["copy", "--from", "o"],
    ] {
        let mut tool = remembered.tool();
        let offers = lines(tool.env("UZIMA_BACKUP_CONFIG", config).arg("__complete").args(words));
        assert_eq!(offers, ["first", "offsite"], "{words:?}");
    }
    assert_eq!(remembered.offers(&["list", "--place", ""]), ["first"]);
    let shop = |words: &[&str]| {
        let offers = remembered.offers(words);
        offers.into_iter().filter(|name| name.starts_with("shop.")).collect::<Vec<_>>()
    };
    let (one, two) = (vec!["shop.orders"], vec!["shop.more", "shop.orders"]);
    for (words, want) in [
        (&["backup", "--job", "weekly", "--include", ""][..], &two),
        (&["backup", "--job", "nightly", "--exclude=sh"], &one),
        (&["restore", weekly, "--ns-include", ""], &two),
        (&["restore", nightly, "--ns-exclude", ""], &one),
        (&["get", nightly, ""], &one),
        (&["get", "latest", "--job", "weekly", "shop"], &two),
        (&["diff", weekly, nightly, ""], &one),
        (&["timeline", "--job", "nightly", "--ns", ""], &one),
        (&["list", "--ns", ""], &vec![]),
        (&["get", "latest", "shop.orders", ""], &vec![]),
        (&["restore", "--place", "offsite", "--ns-include", ""], &vec![]),
    ] {
        assert_eq!(shop(words), *want, "{words:?}");
    }
    assert_eq!(remembered.proposed_by_bash(&["get", nightly, "shop"]), ["shop.orders"]);
    let found = remembered.proposed_by_bash(&["restore", weekly, "--ns-include", "shop.m"]);
    assert_eq!(found, ["shop.more"]);
    assert_eq!(remembered.proposed_by_bash(&["list", "--place", "f"]), ["first"]);
    std::fs::remove_dir_all(remembered.home.state()).expect("no state");
    assert_eq!(shop(&["backup", "--include", ""]), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn fish_completes_ids_and_jobs() {
    let Some(fish) = find("fish", "fish_completes_ids_and_jobs") else { return };
    let remembered = Remembered::make().await;
    let [nightly, weekly] = &remembered.ids;
    let proposed = |line: &str| {
        let mut shell = remembered.shell(&fish);
        shell
            .args(["--no-config", "-c", "source $argv[1]; complete -C $argv[2]"])
            .arg(script_of("fish"))
            .arg(line);
        lines(&mut shell)
    };
    let nightly_line = format!("{nightly}\tnightly");
    assert_eq!(proposed(&format!("uzima-backup restore {}", &nightly[..nightly.len() - 1])), [nightly_line]);
    assert_eq!(proposed("uzima-backup verify --job weekly 2"), [format!("{weekly}\tweekly")]);
    let job = |value: &str| format!("{value}\tOnly backups of this job");
    assert_eq!(proposed("uzima-backup list --job w"), [job("weekly")]);
    assert_eq!(proposed("uzima-backup list --job=w"), [job("--job=weekly")]);
    assert_eq!(proposed("uzima-backup cleanup --accept 2").len(), 2);
    assert_eq!(proposed("uzima-backup restore --drop la"), ["latest"]);
    assert_eq!(proposed(&format!("uzima-backup get {nightly} shop")), ["shop.orders"]);
    assert_eq!(proposed("uzima-backup copy --to f").len(), 1);
}

/// The functions that show the values belong to zsh's completion system, which needs a terminal.
#[tokio::test(flavor = "multi_thread")]
async fn zsh_completes_ids_and_jobs() {
    let Some(zsh) = find("zsh", "zsh_completes_ids_and_jobs") else { return };
    let remembered = Remembered::make().await;
    let [_, weekly] = &remembered.ids;
    let proposed = |words: &[&str]| {
        let script = "compdef() { : }; _describe() { local name=$argv[-1]; print -rl -- ${(P)name} }; source $1; shift; \
                      _uzima_backup_words=(\"$@\"); _uzima_backup_offers latest";
        let mut shell = remembered.shell(&zsh);
        shell.args(["-f", "-c", script, "zsh"]).arg(script_of("zsh")).args(words);
        lines(&mut shell)
    };
    assert_eq!(
        proposed(&["verify", "--job", "weekly", ""]),
        ["latest".to_string(), format!("{weekly}:weekly")]
    );
    assert_eq!(proposed(&["list", "--job", ""]), ["nightly", "weekly"]);
    assert_eq!(proposed(&["restore", "--dir", "/nowhere", ""]), ["latest"]);
    assert!(proposed(&["get", "latest", "--job", "weekly", ""]).contains(&"shop.more".to_string()));
}

/// Another user may be able to write to the state directory.
#[tokio::test(flavor = "multi_thread")]
async fn hostile_files_offer_nothing_that_a_shell_could_expand() {
    let remembered = Remembered::make().await;
    let cache = remembered.file(".cache");
    let plain = String::from_utf8(zstd::decode_all(File::open(&cache).expect("a cache")).expect("zstd"))
        .expect("text");
    for job in ["$(touch pwned)", "`touch pwned`", "a b", "a\\tb", "a\\nb", "\\u001b[2J", "ü", ""] {
        let planted = plain.replace(r#""job":"weekly""#, &format!(r#""job":"{job}""#));
        assert_ne!(planted, plain);
        std::fs::write(&cache, zstd::encode_all(planted.as_bytes(), 1).expect("zstd")).expect("a file");
        assert_eq!(remembered.offers(&["list", "--job", ""]), ["nightly"], "{job}");
        assert_eq!(remembered.proposed_by_bash(&["list", "--job", ""]), ["nightly"], "{job}");
        assert!(remembered.offers(&["restore", ""]).contains(&remembered.ids[1]), "{job}");
    }
    assert!(!remembered.home.path().join("pwned").exists());
    // Without a cache, there are still ids.
    std::fs::write(&cache, "not a cache").expect("a file");
    assert_eq!(remembered.offers(&["restore", ""]).len(), 3);
    assert_eq!(remembered.offers(&["list", "--job", ""]), Vec::<String>::new());
    let known = remembered.file(".known.json");
    let text = std::fs::read_to_string(&known).expect("the known backups");
    for id in ["$(touch pwned)", "20261123T030000Z-7k3q9d\\n$(touch pwned)", "../../x"] {
        std::fs::write(&known, text.replace(&remembered.ids[1], id)).expect("a file");
        assert_eq!(remembered.offers(&["restore", ""]), Vec::<String>::new(), "{id}");
    }
}

/// The completions find the files of a place by its name, without opening it.
#[tokio::test]
async fn the_name_of_a_place_is_that_of_its_store() {
    for prefix in ["", "mongodb", "/a/b/"] {
        let options = S3Options::new("backups", prefix);
        let name = Place::S3(Box::new(options.clone())).name();
        assert_eq!(S3Store::connect(options).await.expect("a store").place(), name);
    }
    let home = Home::new();
    for path in [home.backups(), home.path().join("./backups/")] {
        let name = Place::Dir(DirOptions::new(&path)).name();
        assert_eq!(DirStore::new(DirOptions::new(path)).expect("a store").place(), name);
    }
}
