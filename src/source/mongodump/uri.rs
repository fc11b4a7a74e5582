//! The connection string for the child: the same login and options, but for one member, and without
//! a database in its path, which would narrow the dump.

use crate::secret::{ExposeSecret, Secret};

/// Options that speak of choosing a member.
const CHOOSING: [&str; 6] = [
    "readpreference",
    "readpreferencetags",
    "maxstalenessseconds",
    "directconnection",
    "replicaset",
    "loadbalanced",
];

/// `uri`, directed at the member `address`. `source` is the database of the login as the driver knows
/// it: the TXT record of a `mongodb+srv` name may say another than the path.
pub fn for_child(uri: &Secret, address: &str, source: Option<&str>) -> Secret {
    let uri = uri.expose_secret();
    let srv = uri.starts_with("mongodb+srv://");
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let (authority_and_path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = authority_and_path.split_once('/').unwrap_or((authority_and_path, ""));
    let login = authority.rsplit_once('@').map(|(login, _)| login);

    let mut options: Vec<String> = query
        .split('&')
        .filter(|option| !option.is_empty() && !CHOOSING.contains(&name(option).as_str()))
        .map(str::to_string)
        .collect();
    let has = |wanted: &str| options.iter().any(|option| name(option) == wanted);
    let (has_source, has_tls) = (has("authsource"), has("tls") || has("ssl"));
    if login.is_some() && !path.is_empty() && !has_source {
        options.push(format!("authSource={}", source.filter(|_| srv).unwrap_or(path)));
    }
    if srv && !has_tls {
        options.push("tls=true".into());
    }
    options.push("directConnection=true".into());
    let login = login.map(|login| format!("{login}@")).unwrap_or_default();
    Secret::from(format!("mongodb://{login}{address}/?{}", options.join("&")))
}

fn name(option: &str) -> String {
    option.split('=').next().unwrap_or("").to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_member_the_same_login() {
        for (uri, want) in [
            ("mongodb://localhost:27017", "mongodb://h:1/?directConnection=true"),
            (
                "mongodb://u:p%40@a:1,b:2/?replicaSet=rs&readPreference=secondary&w=1",
                "mongodb://u:p%40@h:1/?w=1&directConnection=true",
            ),
            ("mongodb://u:p@a/admin", "mongodb://u:p@h:1/?authSource=admin&directConnection=true"),
            ("mongodb://u:p@a/shop", "mongodb://u:p@h:1/?authSource=shop&directConnection=true"),
            (
                "mongodb://u:p@a/shop?authSource=admin",
                "mongodb://u:p@h:1/?authSource=admin&directConnection=true",
            ),
            ("mongodb://a/shop", "mongodb://h:1/?directConnection=true"),
            (
                "mongodb+srv://u:p@c.example/?retryWrites=true",
                "mongodb://u:p@h:1/?retryWrites=true&tls=true&directConnection=true",
            ),
        ] {
            let uri = Secret::from(uri.to_string());
            assert_eq!(for_child(&uri, "h:1", None).expose_secret(), want, "{}", uri.expose_secret());
        }
        let uri = Secret::from("mongodb+srv://u:p@c.example/shop".to_string());
        let want = "mongodb://u:p@h:1/?authSource=admin&tls=true&directConnection=true";
        assert_eq!(for_child(&uri, "h:1", Some("admin")).expose_secret(), want);
    }
}
