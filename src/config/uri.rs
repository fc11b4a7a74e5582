//! MONGO_URI, checked without touching the network.

use mongodb::options::{ConnectionString, HostInfo, ServerAddress};

use crate::error::{Error, Result};
use crate::secret::Redactor;

/// What a connection string says, as far as a backup cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UriFacts {
    /// The first host, without port.
    pub host: String,
    /// The database in its path, unless that is `admin`, which is for authentication only.
    pub database: Option<String>,
}

/// Checks the connection string of the server that is backed up.
pub fn check(uri: &str) -> Result<UriFacts> {
    check_named("mongo_uri", uri)
}

/// Checks the connection string in the setting `key`.
pub fn check_named(key: &str, uri: &str) -> Result<UriFacts> {
    let parsed = ConnectionString::parse(uri).map_err(|e| {
        // The driver may quote the string.
        let words = Redactor::new(&[uri], &[]).clean(&crate::source::errors::tidy(&e));
        // What follows the ? has nothing to do with the login.
        let options = words.contains(" option");
        Error::usage(format!("{key} is not a valid connection string: {words}")).hint(if options {
            "Correct that option, or leave it out: behind the ? there is name=value, with & between them"
        } else {
            "It looks like mongodb://user:password@host:27017/; the characters @ : / % $ of a password are \
             percent-encoded"
        })
    })?;
    let host = match &parsed.host_info {
        HostInfo::HostIdentifiers(hosts) => hosts.first().map(host_name),
        HostInfo::DnsRecord(name) => Some(name.clone()),
        _ => None,
    };
    Ok(UriFacts {
        host: host.unwrap_or_else(|| "localhost".into()),
        database: parsed.default_database.filter(|db| db != "admin"),
    })
}

fn host_name(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, .. } => host.clone(),
        _ => "localhost".into(),
    }
}

/// Whether a host is this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_databases() {
        for (uri, host, database) in [
            ("mongodb://localhost:27017", "localhost", None),
            ("mongodb://u:p@db1:1,db2:2/admin", "db1", None),
            ("mongodb://u:p@db1/shop", "db1", Some("shop")),
            ("mongodb://u:p%40%3A%2F%25%24ü@db1/?authSource=admin", "db1", None),
            ("mongodb+srv://u:p@cluster.example.com/shop", "cluster.example.com", Some("shop")),
        ] {
            let facts = check(uri).unwrap();
            assert_eq!((facts.host.as_str(), facts.database.as_deref()), (host, database), "{uri}");
        }
    }

    #[test]
    fn a_bad_one_is_refused_without_its_password() {
        for uri in [
            "localhost:27017",
            "mongodb://",
            "mongodb://u:hunter/2@h",
            "mongodb://u:hunt@er2@h",
            "http://u:hunter2@h",
        ] {
            let error = check(uri).unwrap_err();
            assert!(!error.chain().contains("hunt"), "{}", error.chain());
            assert_eq!(error.exit(), crate::exit::Exit::Usage);
        }
    }

    #[test]
    fn the_next_step_is_about_what_is_wrong() {
        for (uri, words, step) in [
            (
                "localhost:27017",
                "connection string: connection string contains no scheme",
                "It looks like mongodb://",
            ),
            ("mongodb://h/?replicaset", "not a 'key=value' pair", "Correct that option"),
            ("mongodb://h/?serverSelectionTimeoutMS=x", "serverselectiontimeoutms", "Correct that option"),
        ] {
            let error = check(uri).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.next_step().unwrap().starts_with(step), "{:?}", error.next_step());
        }
    }

    #[test]
    fn loopback_is_known() {
        assert!(is_loopback("localhost") && is_loopback("127.0.0.1") && is_loopback("[::1]"));
        assert!(!is_loopback("db1"));
    }
}
