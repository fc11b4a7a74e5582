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
