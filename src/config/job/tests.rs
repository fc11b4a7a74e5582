use super::*;

fn settings(env: &[(&str, &str)]) -> Result<JobSettings> {
    let machine = Machine { host: "machine".into(), search_path: None, state_dir: None, cores: 1 };
    JobSettings::resolve(&Layers::of(env), &machine, false)
}

#[test]
fn a_job_is_named_after_selection_and_server() {
    for (env, want) in [
        (vec![], "all@machine"),
        (vec![("MONGO_URI", "mongodb://u:p@db1/admin")], "all@db1"),
        (vec![("MONGO_URI", "mongodb://u:p@db1/shop")], "shop@db1"),
        (vec![("MONGO_URI", "mongodb://db1/shop"), ("BACKUP_DATABASES", "a, b")], "a+b@db1"),
        (vec![("BACKUP_JOB", "nightly")], "nightly"),
    ] {
        assert_eq!(settings(&env).unwrap().job, want);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_origin() {
    for (name, value, word) in [
        ("BACKUP_FORMAT", "zip", "archive.zst"),
        ("BACKUP_ENGINE", "mongo", "native"),
        ("BACKUP_CONSISTENCY", "yes", "snapshot"),
        ("BACKUP_COMPRESSION_LEVEL", "13", "1 to 12"),
        ("BACKUP_COMPRESSION_LEVEL", "x", "compression_level"),
        ("BACKUP_COMPRESSION_LEVEL", "autox", "1 to 12, and auto"),
        ("BACKUP_RETENTION_DAYS", "0", "at least 1"),
        ("BACKUP_RETENTION_DAYS", "-1", "at least 1"),
        ("BACKUP_KEEP_MIN", "0", "at least 1"),
        ("BACKUP_KEEP_DAILY", "0", "at least 1"),
        ("BACKUP_JOB", "a/b", "characters"),
        ("BACKUP_DATABASES", "a.b", "a.b"),
        ("BACKUP_DATABASES", "local", "never part"),
        ("BACKUP_INCLUDE", "a.$b", "'$'"),
        ("BACKUP_CHECK_COMPRESSION", "maybe", "true or false"),
        ("BACKUP_STALL_TIMEOUT", "0", "at least 1"),
    ] {
        let error = settings(&[(name, value)]).unwrap_err();
        assert!(error.to_string().contains(word), "{name}={value}: {error}");
        assert!(error.to_string().contains(name), "{name}={value}: {error}");
        assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
    }
}

#[test]
fn flags_that_leave_out_a_part_of_a_configured_job_are_partial() {
    let machine = Machine { host: "vm".into(), search_path: None, state_dir: None, cores: 2 };
    let partial = |flags: &[(&'static str, &str)], env: &[(&str, &str)]| {
        let raw = |(key, text): &(&'static str, &str)| match *key {
            "job" => (*key, Raw::Text((*text).into())),
            _ => (*key, Raw::List(text.split(',').map(Into::into).collect())),
        };
        let value = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, value)| value.into());
        let layers =
            Layers::load(flags.iter().map(raw).collect(), &value, Some(Path::new("/dev/null"))).unwrap();
        JobSettings::resolve(&layers, &machine, true).unwrap().partial
    };
    let job = ("BACKUP_JOB", "nightly");
    assert!(partial(&[("exclude", "shop.carts")], &[job]));
    assert!(partial(&[("databases", "shop")], &[job]));
    assert!(partial(&[("databases", "blog")], &[job, ("MONGO_URI", "mongodb://db1/shop?authSource=admin")]));
    assert!(partial(&[("exclude", "a.b")], &[job, ("BACKUP_EXCLUDE", "c.d")]), "flags replace the list");
    assert!(!partial(&[], &[job, ("BACKUP_EXCLUDE", "shop.carts")]));
    assert!(!partial(&[("exclude", "shop.carts")], &[job, ("BACKUP_EXCLUDE", "shop.carts")]));
    assert!(!partial(&[("databases", "shop,blog")], &[job, ("BACKUP_DATABASES", "shop")]), "more is no part");
    assert!(!partial(&[("exclude", "shop.carts")], &[]), "the job is named after the selection");
    assert!(!partial(&[("exclude", "shop.carts"), ("job", "small")], &[job]), "the flags name the job");
}

#[test]
fn the_level_is_fixed_or_follows_the_line() {
    for (format, level, want) in [
        ("tar.zst", None, (3, false)),
        ("tar.zst", Some("19"), (19, false)),
        ("tar.zst", Some("auto"), (3, true)),
        ("archive.gz", Some("auto"), (4, true)),
    ] {
        let mut env = vec![("BACKUP_FORMAT", format)];
        env.extend(level.map(|level| ("BACKUP_COMPRESSION_LEVEL", level)));
        let settings = settings(&env).unwrap();
        assert_eq!((settings.format.codec.level(), settings.auto_level), want, "{format} {level:?}");
    }
}
