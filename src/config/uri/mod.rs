//! Checks connection strings without network access, and rewrites them for the driver and for mongodump, which take
//! different options and spell some of them differently.

mod options;
pub mod table;

use std::fmt::Write;

use mongodb::options::{ConnectionString, HostInfo, ServerAddress};
use percent_encoding::{AsciiSet, utf8_percent_encode};

use self::options::{UriOptions, WrongOption};
use crate::base::error::{Error, Result};
use crate::base::secret::{ExposeSecret, Redactor, Secret, UNRESERVED, decoded};

/// Characters that are not percent-encoded: the unreserved ones (RFC 3986, 2.3) and those of host lists.
const PLAIN: &AsciiSet = &UNRESERVED.remove(b',').remove(b':');

/// The parts of a connection string that a job's name and selection depend on.
#[derive(Debug)]
pub(super) struct UriFacts {
    /// The first host, without port.
    pub host: String,
    /// The servers as the connection string names them.
    pub servers: String,
    /// The database in the path. `admin` does not count, because it only serves the login.
    pub database: Option<String>,
}

/// A connection string whose options both engines understand.
#[derive(Clone, PartialEq, Eq)]
pub struct MongoUri {
    /// Scheme, login, hosts and path: `mongodb://user:password@host/path`.
    head: String,
    options: UriOptions,
}

impl MongoUri {
    /// # Errors
    /// Returns an error if an option cannot be used.
    pub fn read(uri: &str) -> Result<MongoUri, WrongOption> {
        let (head, query) = uri.split_once('?').unwrap_or((uri, ""));
        let srv = head.starts_with("mongodb+srv://");
        // If an @ follows the first ?, the ? may be part of a password.
        if query.contains('@') && (!head.contains('@') || UriOptions::read(query, srv).is_err()) {
            return Err(WrongOption {
                why: "there is an @ after the ?".into(),
                instead: "Percent-encode the characters @ : / ? % $ in a password (a ? is %3F), and an @ in the value of an \
                          option as %40"
                    .into(),
            });
        }
        let mut head = head.to_string();
        let hosts = head.rfind('@').or_else(|| head.find("://").map(|at| at + 2));
        if hosts.is_some_and(|at| !head[at + 1..].contains('/')) {
            head.push('/');
        }
        if srv {
            head = lowered(&head);
        }
        Ok(MongoUri { head, options: UriOptions::read(query, srv)? })
    }

    /// An option's value, by its name in the MongoDB manual.
    pub fn option(&self, name: &str) -> Option<&str> {
        self.options.value(name)
    }

    /// Returns true if an option is `true`.
    pub fn is_on(&self, name: &str) -> bool {
        self.options.is_on(name)
    }

    /// The connection string for the driver.
    pub fn for_driver(&self) -> Secret {
        const NOT_KNOWN: [&str; 3] =
            ["tlsAllowInvalidHostnames", "tlsCertificateKeyFilePassword", "zstdCompressionLevel"];
        let known = self.options.all().filter(|(option, _)| !NOT_KNOWN.contains(&option.name));
        Secret::from(format!("{}{}", self.head, query(known.map(|(option, value)| (option.name, value)))))
    }

    /// The connection string for mongodump, with the same login. It names only the member at `address`, and has no
    /// database in its path, which would narrow the dump. `source` is the driver's database for the login: the TXT
    /// record of a `mongodb+srv` name may name another database than the path.
    pub fn for_mongodump(&self, address: &ServerAddress, source: Option<&str>) -> Secret {
        let rest = self.head.split_once("://").map_or(self.head.as_str(), |(_, rest)| rest);
        let (login, hosts) =
            rest.rsplit_once('@').map_or((None, rest), |(login, hosts)| (Some(login), hosts));
        let path = hosts.split_once('/').map_or("", |(_, path)| path);
        let known =
            self.options.all().filter(|(option, _)| option.for_mongodump && option.name != "authSource");
        let mut rows: Vec<(&str, &str)> = known
            .map(|(option, value)| match option.name {
                // This is mongodump's only option to trust any certificate.
                "tlsAllowInvalidCertificates" => ("tlsInsecure", value),
                name => (name, value),
            })
            .collect();
        let path = decoded(path);
        let default = match self.option("authMechanism") {
            Some("MONGODB-X509") => Some("$external"),
            _ => source.or(Some(path.as_str()).filter(|path| !path.is_empty())),
        };
        if login.is_some() || self.option("authMechanism").is_some() {
            rows.extend(self.option("authSource").or(default).map(|source| ("authSource", source)));
        }
        if !self.is_on("loadBalanced") {
            rows.push(("directConnection", "true"));
        }
        let login = login.map(|login| format!("{login}@")).unwrap_or_default();
        let host =
            utf8_percent_encode(&shown(address), PLAIN).to_string().replace("%5B", "[").replace("%5D", "]");
        Secret::from(format!("mongodb://{login}{host}/{}", query(rows.into_iter())))
    }

    /// The connection string for a connection through the relay, which speaks TLS itself.
    pub fn without_tls(&self) -> MongoUri {
        MongoUri { head: self.head.clone(), options: self.options.clone().without_tls() }
    }

    /// A line for each reason why options are ignored.
    pub fn warnings(&self) -> Vec<String> {
        self.options.warnings()
    }
}

/// Changes the host to lower case. The driver compares the domain of a `mongodb+srv` name with those of its members letter by
/// letter (3.9.1, src/srv.rs), but DNS ignores letter case.
fn lowered(head: &str) -> String {
    let host = head.rfind('@').map_or_else(|| head.find("://").map_or(0, |at| at + 3), |at| at + 1);
    let end = head[host..].find('/').map_or(head.len(), |at| host + at);
    format!("{}{}{}", &head[..host], head[host..end].to_lowercase(), &head[end..])
}

/// `?name=value&…`, or an empty text.
fn query<'a>(options: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut out = String::new();
    for (name, value) in options {
        let sign = if out.is_empty() { '?' } else { '&' };
        let _ = write!(out, "{sign}{name}={}", utf8_percent_encode(value, PLAIN));
    }
    out
}

/// An address as people write it, with brackets around IPv6 addresses. The driver prints no brackets, so that a port looks
/// like a part of the address.
pub fn shown(address: &ServerAddress) -> String {
    match address {
        ServerAddress::Tcp { host, port } if host.contains(':') => {
            format!("[{host}]:{}", port.unwrap_or(27017))
        }
        other => other.to_string(),
    }
}

/// Addresses, separated by commas.
pub fn shown_all(addresses: &[ServerAddress]) -> String {
    addresses.iter().map(shown).collect::<Vec<_>>().join(",")
}

/// Checks the connection string in the setting `key`.
pub(super) fn check(key: &str, uri: &str) -> Result<UriFacts> {
    let read = read_named(key, uri)?;
    let parsed = ConnectionString::parse(read.for_driver().expose_secret()).map_err(|e| {
        let text = e.kind.to_string();
        let words = text.strip_prefix("An invalid argument was provided: ").unwrap_or(&text);
        // The driver may quote the string.
        let words = Redactor::new(&[uri], &[]).clean(words);
        invalid(key, &words, form(uri, &words))
    })?;
    let (host, several) = match &parsed.host_info {
        HostInfo::HostIdentifiers(hosts) => (hosts.first().map(host_name), hosts.len() > 1),
        HostInfo::DnsRecord(name) => (Some(name.as_str()), false),
        _ => (None, false),
    };
    for option in ["directConnection", "loadBalanced"] {
        if several && read.is_on(option) {
            let why = format!("{option}=true needs a single host, but several are named");
            return Err(invalid(key, &why, "Name one host, or leave the option out"));
        }
    }
    let servers = match &parsed.host_info {
        HostInfo::HostIdentifiers(hosts) => shown_all(hosts),
        _ => host.unwrap_or("localhost").to_string(),
    };
    Ok(UriFacts {
        host: host.unwrap_or("localhost").to_string(),
        servers,
        database: parsed.default_database.filter(|db| db != "admin"),
    })
}

/// Reads the connection string in the setting `key`.
///
/// # Errors
/// Returns an error that names the unusable option, but never its value.
pub fn read_named(key: &str, uri: &str) -> Result<MongoUri> {
    MongoUri::read(uri).map_err(|WrongOption { why, instead }| invalid(key, &why, &instead))
}

fn invalid(key: &str, why: &str, step: &str) -> Error {
    Error::usage(format!("{key} is not a valid connection string: {why}")).hint(step)
}

/// The next step after an invalid connection string: the right form.
fn form(uri: &str, words: &str) -> &'static str {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let hosts = rest.rsplit_once('@').map_or(rest, |(_, hosts)| hosts);
    if hosts.starts_with('/') && hosts.contains(".sock") {
        return "The path of a Unix socket is written with %2F for each /: mongodb://%2Ftmp%2Fmongodb-27017.sock/";
    }
    if words.contains("MONGODB-X509") {
        return "A login with a certificate has no password: mongodb://host/?authMechanism=MONGODB-X509&tls=true";
    }
    if words.contains("invalid server address") {
        return "Hosts look like db1:27017, [::1]:27017 (an IPv6 address) or %2Ftmp%2Fmongodb-27017.sock, with commas \
                between several; percent-encode the characters @ : / % $ in a password";
    }
    "A connection string looks like mongodb://user:password@host:27017/; percent-encode the characters @ : / % $ in a password"
}

fn host_name(address: &ServerAddress) -> &str {
    match address {
        ServerAddress::Tcp { host, .. } => host,
        _ => "localhost",
    }
}

/// Returns true if a host name or address stands for this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_database_are_found() {
        for (uri, host, database) in [
            ("mongodb://localhost:27017", "localhost", None),
            ("mongodb://u:p@db1:1,db2:2/admin", "db1", None),
            ("mongodb://u:p@db1/shop", "db1", Some("shop")),
            ("mongodb://u:p%40%3A%2F%25%24ü@db1/?authSource=admin", "db1", None),
            ("mongodb+srv://u:p@cluster.example.com/shop", "cluster.example.com", Some("shop")),
        ] {
            let facts = check("mongo_uri", uri).unwrap();
            assert_eq!((facts.host.as_str(), facts.database.as_deref()), (host, database), "{uri}");
        }
    }

    #[test]
    fn an_invalid_connection_string_is_refused_without_its_password() {
        for uri in [
            "localhost:27017",
            "mongodb://",
            "mongodb://u:hunter/2@h",
            "mongodb://u:hunt@er2@h",
            "http://u:hunter2@h",
        ] {
            let error = check("mongo_uri", uri).unwrap_err();
            assert!(!error.chain().contains("hunt"), "{}", error.chain());
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
        }
    }

    #[test]
    fn the_next_step_depends_on_the_fault() {
        for (uri, words, step) in [
            (
                "localhost:27017",
                "connection string: connection string contains no scheme",
                "A connection string looks like mongodb://",
            ),
            ("mongodb://h/?replicaset", "option replicaset has no value", "Write name=value"),
            (
                "mongodb://h/?serverSelectionTimeoutMS=x",
                "option serverSelectionTimeoutMS has an invalid value",
                "serverSelectionTimeoutMS must be a number of milliseconds",
            ),
            (
                "mongodb:///tmp/mongodb-27017.sock",
                "the hostname cannot be empty",
                "The path of a Unix socket",
            ),
            ("mongodb://::1/", "invalid server address", "Hosts look like"),
            ("mongodb://a,b/?directConnection=true", "needs a single host", "Name one host"),
        ] {
            let error = check("mongo_uri", uri).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
            assert!(error.next_step().unwrap().starts_with(step), "{:?}", error.next_step());
        }
    }

    fn driver(uri: &str) -> String {
        let read = MongoUri::read(uri).unwrap_or_else(|wrong| panic!("{uri}: {wrong:?}"));
        check("mongo_uri", uri).unwrap_or_else(|e| panic!("{uri}: {}", e.chain()));
        read.for_driver().expose_secret().to_string()
    }

    fn mongodump(uri: &str, source: Option<&str>) -> String {
        let address = ServerAddress::parse("h:1").unwrap();
        MongoUri::read(uri).unwrap().for_mongodump(&address, source).expose_secret().to_string()
    }

    #[test]
    fn options_reach_the_driver_in_its_own_spelling() {
        for (uri, want) in [
            ("mongodb://h", "mongodb://h/"),
            ("mongodb://h?w=2", "mongodb://h/?w=2"),
            ("mongodb://h/?", "mongodb://h/"),
            ("mongodb://h/db?&REPLICASET=rs;W=majority&", "mongodb://h/db?replicaSet=rs&w=majority"),
            (
                "mongodb://u:p@h/?j=true&poolSize=5&wtimeout=100",
                "mongodb://u:p@h/?journal=true&maxPoolSize=5",
            ),
            ("mongodb://h/?connect=direct", "mongodb://h/?directConnection=true"),
            ("mongodb://h/?connect=replicaSet&connect=automatic", "mongodb://h/"),
            ("mongodb://h/?slaveOk=true", "mongodb://h/?readPreference=secondaryPreferred"),
            ("mongodb://h/?slaveOk=false", "mongodb://h/"),
            ("mongodb://h/?slaveOk=true&readPreference=nearest", "mongodb://h/?readPreference=nearest"),
            ("mongodb://h/?readPreferenceTags=", "mongodb://h/"),
            (
                "mongodb://h/?readPreference=SECONDARY&readPreferenceTags=dc:a,r:1&readPreferenceTags=",
                "mongodb://h/?readPreference=secondary&readPreferenceTags=dc:a,r:1&readPreferenceTags=",
            ),
            (
                "mongodb://h/?readPreference=primary&readPreferenceTags=dc:a",
                "mongodb://h/?readPreference=primary",
            ),
            (
                "mongodb://h/?readPreference=secondary&maxStalenessSeconds=-1",
                "mongodb://h/?readPreference=secondary",
            ),
            ("mongodb://h/?compressors=snappy,zstd,zlib", "mongodb://h/?compressors=snappy,zstd,zlib"),
            ("mongodb://h/?compressors=lz4,Zstd,zstd", "mongodb://h/?compressors=zstd"),
            ("mongodb://h/?compressors=none&zlibCompressionLevel=6", "mongodb://h/"),
            (
                "mongodb://h/?compressors=zlib&zlibCompressionLevel=6&zstdCompressionLevel=3",
                "mongodb://h/?compressors=zlib&zlibCompressionLevel=6",
            ),
            ("mongodb://h/?maxIdleTimeMS=0&maxPoolSize=0&connectTimeoutMS=0&w=0", "mongodb://h/"),
            ("mongodb://h/?maxPoolSize=5&minPoolSize=9", "mongodb://h/?maxPoolSize=5"),
            (
                "mongodb://h/?retryWrites=True&retryReads=FALSE",
                "mongodb://h/?retryReads=false&retryWrites=true",
            ),
            ("mongodb://h/?replicaSet=a&replicaSet=b", "mongodb://h/?replicaSet=b"),
            ("mongodb://h/?replicaSet=&w=", "mongodb://h/"),
            ("mongodb://h/?appName=a%26b+c", "mongodb://h/?appName=a%26b%2Bc"),
            ("mongodb://u:p@h/?authMechanism=scram-sha-256", "mongodb://u:p@h/?authMechanism=SCRAM-SHA-256"),
            ("mongodb://u:p@h/?authMechanism=DEFAULT", "mongodb://u:p@h/"),
            // The driver would switch TLS on for them.
            ("mongodb://h/?tlsInsecure=true", "mongodb://h/"),
            ("mongodb://h/?sslValidate=false&ssl=false", "mongodb://h/?tls=false"),
            (
                "mongodb://h/?ssl=true&sslValidate=false",
                "mongodb://h/?tls=true&tlsAllowInvalidCertificates=true",
            ),
            (
                "mongodb://h/?ssl=true&ssl_cert_reqs=CERT_NONE",
                "mongodb://h/?tls=true&tlsAllowInvalidCertificates=true",
            ),
            ("mongodb://h/?tls=true&ssl=true&tlsInsecure=false", "mongodb://h/?tls=true"),
            (
                "mongodb://h/?tls=true&tlsInsecure=true&tlsAllowInvalidCertificates=false",
                "mongodb://h/?tls=true&tlsAllowInvalidCertificates=true",
            ),
            ("mongodb://h/?ssl_ca_certs=/a/b.pem", "mongodb://h/?tls=true&tlsCAFile=%2Fa%2Fb.pem"),
            ("mongodb+srv://c.example", "mongodb+srv://c.example/?tls=true"),
            ("mongodb+srv://c.example/?tls=false", "mongodb+srv://c.example/?tls=false"),
            (
                "mongodb+srv://Me:P%40w@Shop.Example.COM/Db?srvServiceName=Own",
                "mongodb+srv://Me:P%40w@shop.example.com/Db?srvServiceName=Own&tls=true",
            ),
            ("mongodb+srv://C.Example", "mongodb+srv://c.example/?tls=true"),
            ("mongodb://[::1],[fe80::1]:1/", "mongodb://[::1],[fe80::1]:1/"),
            ("mongodb://u:p@%2Ftmp%2Fmongodb-27017.sock", "mongodb://u:p@%2Ftmp%2Fmongodb-27017.sock/"),
        ] {
            assert_eq!(driver(uri), want, "{uri}");
        }
    }

    #[test]
    fn every_ignored_option_is_named_with_the_reason() {
        let warnings = |query: &str| MongoUri::read(&format!("mongodb://h/?{query}")).unwrap().warnings();
        assert_eq!(
            warnings("useNewUrlParser=true&w=1&useunifiedtopology=true&socketTimeoutMS=5&timeoutMS=1"),
            [
                "useNewUrlParser and useUnifiedTopology are ignored: only the driver of an application uses it",
                "socketTimeoutMS and timeoutMS are ignored: stall_timeout limits how long an answer may take",
            ]
        );
        for row in table::IGNORED {
            for name in row.names.split_whitespace() {
                let lower = name.to_ascii_lowercase();
                assert_eq!(warnings(&format!("{lower}=1")), [format!("{name} is ignored: {}", row.why)]);
            }
        }
        for (query, want) in [
            ("compressors=lz4,snappy", "compressors is ignored: lz4 is not a supported compressor"),
            (
                "replicaSet=a&replicaset=b",
                "replicaset is ignored: it occurs twice, and the last value counts",
            ),
            ("maxPoolSize=0", "maxPoolSize is ignored: 0 means no limit, but the usual limit applies"),
            ("appName=", "appName is ignored: it has no value"),
            ("w=0", "w is ignored: a restore always waits for the server's answer"),
            (
                "readPreferenceTags=a:b",
                "readPreferenceTags is ignored: it needs a readPreference other than primary",
            ),
        ] {
            assert_eq!(warnings(query), [want]);
        }
        assert_eq!(
            warnings("retryWrites=true&retryWrites=true&readPreferenceTags=&compressors=none"),
            [""; 0]
        );
    }

    #[test]
    fn a_wrong_option_is_named_with_the_next_step() {
        for (query, why, instead) in [
            ("replicaSte=rs", "option replicaSte is unknown: did you mean replicaSet?", "Correct the option"),
            ("readPrefrence=x", "did you mean readPreference?", "Correct"),
            (
                "frobnicate=1",
                "option frobnicate is unknown",
                "Leave it out. The options are appName, authMechanism,",
            ),
            (
                "readPreference=second",
                "option readPreference has",
                "readPreference must be primary, primaryPreferred, sec",
            ),
            ("tls=yes", "option tls has", "tls must be true or false"),
            ("tls=", "option tls has", "Give tls a value"),
            ("tls=true&ssl=false", "option tls occurs twice", "Leave out one"),
            ("tls=false&tlsCAFile=/a", "tlsCAFile and tls=false contradict", "Leave out one"),
            ("maxPoolSize=many", "option maxPoolSize has", "maxPoolSize must be a whole number from 0"),
            (
                "heartbeatFrequencyMS=10",
                "option heartbeatFrequencyMS has",
                "heartbeatFrequencyMS must be a number of milli",
            ),
            ("connect=single", "option connect has", "connect must be direct, automatic, replicaSet,"),
            ("authMechanism=GSSAPI", "option authMechanism has", "authMechanism must be SCRAM-SHA-1,"),
            ("tlsCRLFile=/a", "option tlsCRLFile cannot be honoured", "Revocation lists"),
            (
                "tlsCertificateFile=/a",
                "option tlsCertificateFile cannot be honoured",
                "Put certificate and key",
            ),
            ("proxyHost=p", "option proxyHost cannot be honoured", "SOCKS proxies"),
            ("srvServiceName=x", "option srvServiceName is only for mongodb+srv", "Correct"),
            ("authMechanism=MONGODB-X509", "without a certificate", "Name the file"),
            (
                "readPreference=secondary&maxStalenessSeconds=5",
                "maxStalenessSeconds",
                "maxStalenessSeconds must be at least 90",
            ),
            ("=x", "option (a name with characters other than letters) is unknown", "Leave it out"),
        ] {
            let error = check("restore_uri", &format!("mongodb://h/?{query}")).unwrap_err();
            let (text, step) = (error.to_string(), error.next_step().unwrap());
            assert!(text.starts_with("restore_uri is not a valid connection string: "), "{text}");
            assert!(text.contains(why) && step.starts_with(instead), "{query}: {text}; {step}");
            assert_eq!(error.exit(), crate::base::exit::Exit::Usage);
        }
    }

    /// A `?` that is not percent-encoded ends the login. The rest of the password must not be shown as an option.
    #[test]
    fn no_part_of_a_password_is_taken_for_an_option() {
        for uri in ["mongodb://u:hunter?2swordfish@h/", "mongodb://u:a@hunter?2swordfish=1@h"] {
            let error = check("mongo_uri", uri).unwrap_err();
            let text = format!("{} {:?}", error.chain(), error.next_step());
            assert!(!text.contains("hunter") && !text.contains("swordfish"), "{text}");
        }
    }

    #[test]
    fn mongodump_is_sent_to_one_member_with_the_same_login() {
        let x509 = "authMechanism=MONGODB-X509&tlsCertificateKeyFile=/c";
        let logged = "tlsCertificateKeyFile=%2Fc&authSource=%24external&directConnection=true";
        for (uri, want) in [
            ("mongodb://localhost:27017", "?directConnection=true"),
            (
                "mongodb://u:p%40@a:1,b:2/?replicaSet=rs&readPreference=secondary&w=1",
                "?directConnection=true",
            ),
            ("mongodb://u:p@a/admin", "?authSource=admin&directConnection=true"),
            ("mongodb://u:p@a/shop", "?authSource=shop&directConnection=true"),
            ("mongodb://u:p@a/shop?authSource=admin", "?authSource=admin&directConnection=true"),
            ("mongodb://a/shop", "?directConnection=true"),
            (
                "mongodb+srv://u:p@c.example/?retryReads=true",
                "?retryReads=true&tls=true&directConnection=true",
            ),
            ("mongodb+srv://u:p@c.example/?srvServiceName=x", "?tls=true&directConnection=true"),
            (
                "mongodb://a/?tls=true&tlsAllowInvalidCertificates=true",
                "?tls=true&tlsInsecure=true&directConnection=true",
            ),
            ("mongodb://a?wtimeoutMS=5&j=true&compressors=zstd", "?compressors=zstd&directConnection=true"),
            ("mongodb://a/?loadBalanced=true", "?loadBalanced=true"),
            (
                &format!("mongodb://CN%3Dme@a/admin?{x509}"),
                &format!("?authMechanism=MONGODB-X509&tls=true&{logged}"),
            ),
            (&format!("mongodb://a/?{x509}"), &format!("?authMechanism=MONGODB-X509&tls=true&{logged}")),
        ] {
            let got = mongodump(uri, None);
            let login =
                uri.split_once("://").unwrap().1.split_once('@').map(|(login, _)| format!("{login}@"));
            assert_eq!(got, format!("mongodb://{}h:1/{want}", login.unwrap_or_default()), "{uri}");
        }
        let want = "mongodb://u:p@h:1/?tls=true&authSource=admin&directConnection=true";
        assert_eq!(mongodump("mongodb+srv://u:p@c.example/shop", Some("admin")), want);
        for (address, want) in [
            ("/tmp/mongodb-27017.sock", "%2Ftmp%2Fmongodb-27017.sock"),
            ("[::1]:5", "[::1]:5"),
            ("[2001:db8::1]", "[2001:db8::1]:27017"),
        ] {
            let address = ServerAddress::parse(address).unwrap();
            let uri = MongoUri::read("mongodb://a").unwrap().for_mongodump(&address, None);
            assert_eq!(uri.expose_secret(), format!("mongodb://{want}/?directConnection=true"));
        }
    }

    #[test]
    fn no_name_is_in_two_tables() {
        let honoured = table::HONOURED.iter().flat_map(|option| [option.name, option.spellings]);
        let others = table::TRANSLATED.iter().map(|option| option.name);
        let ignored = table::IGNORED.iter().map(|row| row.names);
        let refused = table::REFUSED.iter().map(|row| row.names);
        let names = honoured.chain(others).chain(ignored).chain(refused).flat_map(str::split_whitespace);
        let mut names: Vec<String> = names.map(str::to_ascii_lowercase).collect();
        let all = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn loopback_addresses_are_recognised() {
        assert!(is_loopback("localhost") && is_loopback("127.0.0.1") && is_loopback("[::1]"));
        assert!(!is_loopback("db1"));
    }
}
