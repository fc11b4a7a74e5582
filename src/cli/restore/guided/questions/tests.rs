//! The questions, answered by a script.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;

use super::super::labels::tests::namespace;
use super::*;
use crate::catalog::choose::WhichBackup;
use crate::cli::styled::{Colour, StyledText};
use crate::config::machine::Machine;

/// What the person does next.
#[derive(Debug)]
enum Act {
    /// Chooses the only entry with this text.
    Pick(&'static str),
    Mark(Vec<usize>),
    Write(&'static str),
    Back,
}
use Act::{Back, Mark, Pick, Write};

/// A person who acts by a script.
struct Script {
    acts: VecDeque<Act>,
    /// The questions, and the reasons for which lines were refused.
    seen: Vec<String>,
}

impl Script {
    fn of(acts: impl IntoIterator<Item = Act>) -> Script {
        Script { acts: acts.into_iter().collect(), seen: Vec::new() }
    }

    fn act(&mut self, question: &str) -> Act {
        self.seen.push(question.into());
        self.acts.pop_front().unwrap_or_else(|| panic!("no answer to {:?}", self.seen))
    }
}

impl Person for Script {
    fn columns(&self) -> usize {
        80
    }

    fn colour(&self) -> Colour {
        Colour::Never
    }

    fn sees(&mut self, text: StyledText) {
        self.seen.push(text.into_string());
    }

    async fn picks(&mut self, question: &str, entries: Vec<Entry>, _: usize) -> Result<Reply<usize>> {
        entries.iter().for_each(|entry| assert!(entry.shown.chars().count() <= 72, "{}", entry.shown));
        match self.act(question) {
            Pick(text) => {
                let found: Vec<usize> =
                    (0..entries.len()).filter(|at| entries[*at].shown.contains(text)).collect();
                let [one] = found[..] else { panic!("{text}: {entries:?}") };
                Ok(Reply::Answer(one))
            }
            Back => Ok(Reply::Back),
            other => panic!("{question}: {other:?}"),
        }
    }

    async fn picks_some(&mut self, question: &str, _: Vec<Entry>) -> Result<Reply<Vec<usize>>> {
        match self.act(question) {
            Mark(marked) => Ok(Reply::Answer(marked)),
            Back => Ok(Reply::Back),
            other => panic!("{question}: {other:?}"),
        }
    }

    async fn writes(&mut self, question: &str, _: &str, check: Check) -> Result<Reply<String>> {
        loop {
            match self.act(question) {
                Write(text) => match check(text) {
                    Ok(()) => return Ok(Reply::Answer(text.into())),
                    Err(why) => self.seen.push(why),
                },
                Back => return Ok(Reply::Back),
                other => panic!("{question}: {other:?}"),
            }
        }
    }
}

fn contents() -> Arc<Vec<BackupNamespace>> {
    let of = [("a*", "x"), ("shop", "carts"), ("shop", "orders"), ("shop", "so$"), ("u", "v")];
    Arc::new(of.map(|(db, collection)| namespace(db, collection, 3)).into())
}

fn config(settings: &[(&'static str, &str)]) -> Arc<Config> {
    let flags = settings.iter().map(|(key, text)| (*key, Raw::Text(text.to_string())));
    let flags: BTreeMap<_, _> = flags.collect();
    let machine = Machine::read(&|_| None);
    let (env, file) = (&|_: &str| None, Some(Path::new("/dev/null")));
    Arc::new(Config::load(flags, env, std::iter::empty(), file, &machine).unwrap())
}

#[test]
fn picked_namespaces_become_patterns_that_match_only_them() {
    let contents = contents();
    assert_eq!(patterns(&contents, &[0, 1, 2, 3], true), ["a\\*.x", "shop.*"]);
    assert_eq!(patterns(&contents, &[2, 3, 4], true), ["shop.orders", "shop.so\\$", "u.v"]);
    // At a point in time, further collections may be there.
    assert_eq!(patterns(&contents, &[1, 2, 3], false), ["shop.carts", "shop.orders", "shop.so\\$"]);
}

#[tokio::test]
async fn namespaces_are_picked_or_described_by_patterns_that_match() {
    let (contents, mut args) = (contents(), RestoreArgs::default());
    let mut all = Script::of([Pick("all: 5 namespaces, 15 documents, 1.5 KiB")]);
    namespaces(&mut all, &contents, true, &mut args).await.unwrap();
    assert_eq!(args.ns_include, Vec::<String>::new());
    let mut script = Script::of([
        Pick("from a list"),
        Back,
        Pick("by patterns"),
        Write(""),
        Write("shop.*, ship.*"),
        Write("shop.*, a\\*.x"),
    ]);
    namespaces(&mut script, &contents, true, &mut args).await.unwrap();
    assert_eq!(args.ns_include, ["shop.*", "a\\*.x"]);
    let refused = script.seen.iter().find(|seen| seen.contains("ship.*")).expect("a reason");
    assert!(refused.starts_with("--ns-include 'ship.*' matches nothing in the backup"), "{refused}");
    let mut script = Script::of([Pick("from a list"), Mark(vec![2])]);
    namespaces(&mut script, &contents, true, &mut args).await.unwrap();
    assert_eq!(args.ns_include, ["shop.orders"]);
    assert_eq!(databases(&contents, &args), BTreeSet::from(["shop".to_string()]));
    let mut script = Script::of([Back]);
    assert_eq!(namespaces(&mut script, &contents, true, &mut args).await.unwrap(), Reply::Back);
}

#[tokio::test]
async fn a_filter_that_is_not_supported_is_refused_at_once() {
    let mut args = RestoreArgs::default();
    let mut script = Script::of([Write("{"), Write("{\"a\": {\"$regex\": \"b\"}}"), Write("{\"a\": 1}")]);
    documents(&mut script, &mut args).await.unwrap();
    assert_eq!(args.filter.as_deref(), Some("{\"a\": 1}"));
    assert!(script.seen.iter().any(|seen| seen.contains("$regex")), "{:?}", script.seen);
    documents(&mut Script::of([Write("")]), &mut args).await.unwrap();
    assert_eq!(args.filter, None);
}

#[tokio::test]
async fn a_target_with_a_password_is_refused_with_the_advice_to_set_it_elsewhere() {
    let config = config(&[("mongo_uri", "mongodb://db1/")]);
    let mut args = RestoreArgs::default();
    let mut script = Script::of([
        Pick("another server"),
        Write("mongodb://u:secret@db2/"),
        Write("db2"),
        Write("mongodb://db2/"),
    ]);
    target(&mut script, &config, &mut args).await.unwrap();
    assert_eq!(args.to_uri.as_deref(), Some("mongodb://db2/"));
    let password = script.seen.iter().find(|seen| seen.contains("password")).expect("a reason");
    assert!(password.contains("RESTORE_URI") && !script.seen.concat().contains("secret"), "{password}");
    target(&mut Script::of([Pick("db1:27017 (the server that is backed up)")]), &config, &mut args)
        .await
        .unwrap();
    assert_eq!(args.to_uri, None);
}

#[tokio::test]
async fn the_source_can_be_named_although_another_target_is_configured() {
    let uris = [("mongo_uri", "mongodb://db1/"), ("restore_uri", "mongodb://db2/")];
    let mut args = RestoreArgs::default();
    let backed_up = || Script::of([Pick("db1:27017 (the server that is backed up)")]);
    target(&mut backed_up(), &config(&uris), &mut args).await.unwrap();
    assert_eq!(args.to_uri.as_deref(), Some("mongodb://db1/"));
    target(&mut Script::of([Pick("db2:27017 (RESTORE_URI)")]), &config(&uris), &mut args).await.unwrap();
    assert_eq!(args.to_uri, None);
    // A password cannot be on the command line, so the server is not offered.
    let secret = config(&[("mongo_uri", "mongodb://u:p@db1/"), uris[1]]);
    assert!(!with_target(&secret, "mongodb://db2/").restore_target.as_ref().unwrap().is_source);
    assert_eq!(other_source(&secret), None);
    let same = config(&[("mongo_uri", "mongodb://u:p@db1/"), ("restore_uri", "mongodb://db1:27017/?w=1")]);
    assert!(same.restore_target.as_ref().unwrap().is_source, "the same server with another login");
}

#[tokio::test]
async fn names_are_kept_or_changed_by_a_pair_of_patterns() {
    let shop = BTreeSet::from(["sh*p".to_string()]);
    let mut args = RestoreArgs::default();
    names(&mut Script::of([Pick("as they are")]), &shop, false, &mut args).await.unwrap();
    assert_eq!((args.ns_from.len(), args.ns_to.len()), (0, 0));
    names(&mut Script::of([Pick("sh\\*p.* as rescue.*")]), &shop, true, &mut args).await.unwrap();
    assert_eq!((&args.ns_from[..], &args.ns_to[..]), (&["sh\\*p.*".into()][..], &["rescue.*".into()][..]));
    // A way back keeps the names.
    let back = names(&mut Script::of([Back]), &shop, true, &mut args).await.unwrap();
    assert_eq!((back, &args.ns_from[..]), (Reply::Back, &["sh\\*p.*".into()][..]));
    let mut script =
        Script::of([Pick("other names"), Write("a.$x$"), Back, Write("a.*"), Write("b"), Write("b.*")]);
    names(&mut script, &shop, false, &mut args).await.unwrap();
    assert_eq!((&args.ns_from[..], &args.ns_to[..]), (&["a.*".into()][..], &["b.*".into()][..]));
    assert!(script.seen.iter().any(|seen| seen.contains("need the same '*'")), "{:?}", script.seen);
    assert_eq!(suggested(&BTreeSet::from(["a".into(), "b".into()])), ("*".into(), "rescue_*".into()));
    assert_eq!(suggested(&BTreeSet::from(["rescue".into()])).1, "rescue2.*");
}

#[tokio::test]
async fn only_ways_that_the_other_arguments_allow_are_offered() {
    use Existing::{Beside, Drop, Merge, Swap};
    let plain = RestoreArgs { which: Some(WhichBackup::Latest), ..RestoreArgs::default() };
    assert_eq!(Existing::allowed(&plain), [Beside, Merge, Swap, Drop]);
    let renamed = RestoreArgs { ns_from: vec!["a.*".into()], ns_to: vec!["b.*".into()], ..plain.clone() };
    assert_eq!(Existing::allowed(&renamed), [Beside, Merge, Drop]);
    let filtered = RestoreArgs { filter: Some("{}".into()), ..plain.clone() };
    assert_eq!(Existing::allowed(&filtered), [Beside, Merge, Drop]);
    assert_eq!(Existing::allowed(&RestoreArgs { users: true, ..plain.clone() }), [Beside, Drop]);
    assert_eq!(Existing::allowed(&RestoreArgs { continues: true, ..plain.clone() }), [Beside, Drop]);
    for (text, way) in [("beside", Beside), ("merge", Merge), ("swap", Swap), ("drop", Drop)] {
        let mut args = RestoreArgs { drop: true, ..plain.clone() };
        let way_chosen = existing(&mut Script::of([Pick(text)]), &mut args).await.unwrap();
        assert_eq!(way_chosen, Reply::Answer(way));
        assert_eq!((args.merge, args.swap, args.drop), (way == Merge, way == Swap, way == Drop));
    }
}
