//! Connection strings with correct percent-encoding.

use std::path::PathBuf;

pub(super) struct Parts {
    host: String,
    replica_set: Option<String>,
    ca_file: Option<PathBuf>,
    login: Option<(String, String, String)>,
    direct: bool,
}

impl Parts {
    pub fn new(host: String, replica_set: Option<String>, ca_file: Option<PathBuf>) -> Self {
        Parts { host, replica_set, ca_file, login: None, direct: false }
    }

    pub fn user(mut self, user: &str, password: &str, auth_source: &str) -> Self {
        self.login = Some((user.into(), password.into(), auth_source.into()));
        self
    }

    pub fn direct(mut self) -> Self {
        self.direct = true;
        self
    }

    pub fn build(self) -> String {
        let mut options = Vec::new();
        let mut login = String::new();
        if let Some((user, password, source)) = &self.login {
            login = format!("{}:{}@", percent_encode(user), percent_encode(password));
            options.push(format!("authSource={}", percent_encode(source)));
        }
        match &self.replica_set {
            Some(name) if !self.direct => options.push(format!("replicaSet={name}")),
            _ => options.push("directConnection=true".to_owned()),
        }
        if let Some(ca) = &self.ca_file {
            options.push(format!("tls=true&tlsCAFile={}", percent_encode(&ca.to_string_lossy())));
        }
        format!("mongodb://{login}{}/?{}", self.host, options.join("&"))
    }
}

/// Percent-encodes all characters except RFC 3986's unreserved characters.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
