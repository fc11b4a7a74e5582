//! The Dockerfile, and the examples for Compose and Kubernetes.

use std::process::Command;

use serde_json::Value;

use super::{read, root};
use crate::cli::support::run;

/// The instructions of the Dockerfile, with their continuation lines joined.
fn instructions() -> Vec<(String, String)> {
    let text = read(&root().join("Dockerfile")).replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = lines.map(|line| line.split_once(' ').expect("an instruction with arguments"));
    split.map(|(word, rest)| (word.to_string(), rest.trim().to_string())).collect()
}

#[test]
fn the_image_has_a_user_without_rights_and_no_secret() {
    let all = instructions();
    let of =
        |word: &str| all.iter().filter(|(w, _)| w == word).map(|(_, rest)| rest.as_str()).collect::<Vec<_>>();
    assert_eq!(of("USER"), ["10001:10001"]);
    assert_eq!(of("VOLUME"), [uzima_backup::config::machine::STATE_DIR]);
    assert_eq!(of("ENTRYPOINT"), ["[\"/usr/bin/uzima-backup\"]"]);
    let from = of("FROM");
    assert!(
        from[0].ends_with(" AS build") && from[1].starts_with("debian:") && from[1].ends_with("-slim"),
        "{from:?}"
    );
    // The compiler is at least the oldest one that the manifest allows.
    let rust = format!("rust:{}-slim-", env!("CARGO_PKG_RUST_VERSION"));
    assert!(from[0].starts_with(&rust), "{} is not {rust}", from[0]);
    // Both stages have the same C library.
    assert_eq!(from[0].split(['-', ' ']).nth(2), from[1].split([':', '-']).nth(1));
    assert!(
        of("ARG").is_empty() && of("ENV").is_empty() && of("ADD").is_empty(),
        "nothing can hold a secret"
    );
    let packages: Vec<&str> = of("RUN").into_iter().filter(|run| run.contains("apt-get install")).collect();
    assert!(
        packages.len() == 1 && packages[0].contains("--no-install-recommends ca-certificates  "),
        "{packages:?}"
    );
    assert!(!all.iter().any(|(_, rest)| rest.contains("mongod")));
}

/// What the build copies exists, is not ignored, and is all that the build reads.
#[test]
fn the_image_is_built_from_files_that_exist() {
    let ignored = read(&root().join(".dockerignore"));
    let mut copied: Vec<String> = Vec::new();
    for (_, rest) in
        instructions().iter().filter(|(word, rest)| word == "COPY" && !rest.starts_with("--from"))
    {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (to, sources) = words.split_last().expect("a target");
        for source in sources {
            assert!(root().join(source).exists(), "{source} does not exist");
            assert!(!ignored.lines().any(|line| line == format!("/{source}")), "{source} is ignored");
            assert!(*to == "./" || to == source, "{source} goes to {to}");
            copied.push(source.to_string());
        }
    }
    let manifest: toml::Table = read(&root().join("Cargo.toml")).parse().expect("Cargo.toml");
    let members = manifest["workspace"]["members"].as_array().expect("a list");
    let members =
        members.iter().map(|member| member.as_str().expect("a text")).filter(|member| *member != ".");
    for file in ["Cargo.toml", "Cargo.lock", "build.rs", "askama.toml", "crontab.example", "src", "examples"]
    {
        assert!(copied.iter().any(|path| path == file), "{file} is not copied");
    }
    members.for_each(|member| assert!(copied.iter().any(|path| path == member), "{member} is not copied"));
}

/// The documents of a YAML file as JSON. `None` after a line on stderr, if python3 has no YAML.
fn yaml(path: &str, test: &str) -> Option<Vec<Value>> {
    let python = |script: &str| run(Command::new("python3").args(["-c", script]).arg(root().join(path)));
    if python("import yaml").code != Some(0) {
        eprintln!("SKIPPED packaging::containers::{test}: python3 has no module yaml (python3-yaml)");
        return None;
    }
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(open(sys.argv[1])))))";
    serde_json::from_str(&python(script).ends(0).stdout).expect("JSON")
}

/// Asserts that the variables are settings, and that each secret comes from a file of a mount.
fn check_variables(variables: &[(String, String)], mount: &str, files: &[String]) {
    use uzima_backup::config::table::SETTINGS;
    for (name, value) in variables {
        let own = SETTINGS.iter().find(|setting| setting.env == name);
        let by_file = SETTINGS.iter().find(|setting| setting.file_variable().as_ref() == Some(name));
        assert!(own.or(by_file).is_some(), "{name} is no setting");
        assert!(own.is_none_or(|setting| !setting.secret), "{name} is a secret");
        if by_file.is_some() {
            let file =
                value.strip_prefix(mount).unwrap_or_else(|| panic!("{name} is not in {mount}: {value}"));
            assert!(files.iter().any(|known| known == file), "{file} is not mounted");
        }
    }
    assert!(variables.iter().any(|(name, _)| name == "MONGO_URI_FILE"));
}

#[test]
fn the_compose_file_gives_secrets_as_files_and_no_rights() {
    let Some(documents) =
        yaml("examples/compose/compose.yaml", "the_compose_file_gives_secrets_as_files_and_no_rights")
    else {
        return;
    };
    let service = &documents[0]["services"]["backup"];
    let image = run(Command::new("grep")
        .args(["-c", "docker build -t uzima-backup ."])
        .arg(root().join("Dockerfile")));
    assert_eq!((service["image"].as_str(), image.ends(0).stdout.trim()), (Some("uzima-backup:latest"), "1"));
    assert_eq!((&service["read_only"], &service["cap_drop"]), (&true.into(), &serde_json::json!(["ALL"])));
    assert_eq!(service["security_opt"], serde_json::json!(["no-new-privileges:true"]));
    assert_eq!(service["restart"], "no");
    assert!(service.get("user").is_none() && service.get("privileged").is_none(), "the image's user runs it");
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    let secrets: Vec<String> = service["secrets"].as_array().expect("a list").iter().map(text).collect();
    for secret in &secrets {
        assert!(documents[0]["secrets"][secret]["file"].is_string(), "{secret} is not defined");
    }
    let environment = service["environment"].as_object().expect("a map");
    let variables: Vec<_> = environment.iter().map(|(name, value)| (name.clone(), text(value))).collect();
    check_variables(&variables, "/run/secrets/", &secrets);
    let volume = text(&service["volumes"][0]);
    assert_eq!(volume.split_once(':').expect("a mount").1, uzima_backup::config::machine::STATE_DIR);
    let args: Vec<String> = service["command"].as_array().expect("a list").iter().map(text).collect();
    parses(&args);
}

#[test]
fn the_cron_job_runs_one_backup_at_a_time_without_rights() {
    let Some(documents) =
        yaml("examples/kubernetes/cronjob.yaml", "the_cron_job_runs_one_backup_at_a_time_without_rights")
    else {
        return;
    };
    let [claim, job] = &documents[..] else { panic!("{} documents", documents.len()) };
    assert_eq!((&job["apiVersion"], &job["kind"]), (&"batch/v1".into(), &"CronJob".into()));
    assert_eq!(job["spec"]["concurrencyPolicy"], "Forbid");
    assert_eq!(job["spec"]["jobTemplate"]["spec"]["backoffLimit"], 0);
    let pod = &job["spec"]["jobTemplate"]["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["restartPolicy"], &pod["automountServiceAccountToken"]),
        (&"Never".into(), &false.into())
    );
    assert!(pod["terminationGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds > 10));
    let context = &pod["securityContext"];
    assert_eq!((&context["runAsNonRoot"], &context["runAsUser"]), (&true.into(), &10_001.into()));
    assert_eq!(context["fsGroup"], 10_001);
    let container = &pod["containers"][0];
    let context = &container["securityContext"];
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["capabilities"]["drop"], serde_json::json!(["ALL"]));
    for path in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
        assert!(container["resources"].pointer(path).is_some(), "{path}");
    }
    let text = |value: &Value| value.as_str().expect("a text").to_string();
    let environment = container["env"].as_array().expect("a list");
    let variables: Vec<_> = environment.iter().map(|row| (text(&row["name"]), text(&row["value"]))).collect();
    let files = ["mongo_uri".to_string(), "s3_secret".to_string()];
    check_variables(&variables, "/run/secrets/uzima-backup/", &files);
    let comment = read(&root().join("examples/kubernetes/cronjob.yaml"));
    files.iter().for_each(|file| assert!(comment.contains(&format!("--from-file={file}")), "{file}"));
    // Only a volume that outlives the pod keeps the state.
    let mounts = container["volumeMounts"].as_array().expect("a list");
    let mounted = |path: &str| mounts.iter().find(|mount| mount["mountPath"] == path).expect("a mount");
    let state = &mounted(uzima_backup::config::machine::STATE_DIR)["name"];
    let volumes = pod["volumes"].as_array().expect("a list");
    let volume = |name: &Value| volumes.iter().find(|volume| volume["name"] == *name).expect("a volume");
    assert_eq!(volume(state)["persistentVolumeClaim"]["claimName"], claim["metadata"]["name"]);
    let secret = &mounted("/run/secrets/uzima-backup")["name"];
    let mode = volume(secret)["secret"]["defaultMode"].as_u64().expect("a number");
    assert_eq!(mode, 0o440, "only the pod's group reads it");
    let args: Vec<String> = container["args"].as_array().expect("a list").iter().map(text).collect();
    parses(&args);
}

/// Asserts that the tool understands the arguments.
fn parses(args: &[String]) {
    let words = ["uzima-backup"].into_iter().chain(args.iter().map(String::as_str));
    uzima_backup::cli::command().try_get_matches_from(words).expect("a command line");
}
