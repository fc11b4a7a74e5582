//! The known options of connection strings, as drivers and applications write them, and whether each is honoured,
//! translated, ignored or refused. docs/configuration.md shows these tables.

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
    /// Milliseconds, and the least value that is allowed. Zero stands for "no limit" in other drivers.
    Millis(u64),
    /// A whole number within these bounds.
    Number(i64, i64),
    /// One of these words, whatever their letter case.
    OneOf(&'static [&'static str]),
    /// Names of compressors with commas between them.
    Compressors,
    /// `key:value` pairs with commas between them, or nothing.
    Tags,
    /// A number of members, or the name of a write concern.
    Concern,
}

/// An option that is honoured.
#[derive(Debug)]
pub struct Honoured {
    /// Its name in the MongoDB manual.
    pub name: &'static str,
    /// Other spellings that mean the same.
    pub spellings: &'static [&'static str],
    /// The form of its value.
    pub value: Value,
    /// Mongodump gets the option, too. Mongodump reads one member, and writes nothing.
    pub(super) for_mongodump: bool,
}

const fn honoured(
    name: &'static str,
    spellings: &'static [&'static str],
    value: Value,
    for_mongodump: bool,
) -> Honoured {
    Honoured { name, spellings, value, for_mongodump }
}

const MODES: Value =
    Value::OneOf(&["primary", "primaryPreferred", "secondary", "secondaryPreferred", "nearest"]);
const MECHANISMS: Value =
    Value::OneOf(&["SCRAM-SHA-1", "SCRAM-SHA-256", "MONGODB-X509", "PLAIN", "DEFAULT", "MONGODB-CR"]);
const MONITORING: Value = Value::OneOf(&["auto", "stream", "poll"]);
const ANY: i64 = i32::MAX as i64;

/// The options that are honoured, in alphabetical order.
pub const HONOURED: &[Honoured] = &[
    honoured("appName", &["application_name"], Value::Text, true),
    honoured("authMechanism", &[], MECHANISMS, true),
    honoured("authSource", &[], Value::Text, true),
    honoured("compressors", &["compression"], Value::Compressors, true),
    honoured("connectTimeoutMS", &["connectTimeout"], Value::Millis(1), true),
    honoured("directConnection", &[], Value::Bool, false),
    honoured("enableOverloadRetargeting", &[], Value::Bool, false),
    honoured("heartbeatFrequencyMS", &["heartbeatIntervalMS"], Value::Millis(500), true),
    honoured("journal", &["j"], Value::Bool, false),
    honoured("loadBalanced", &[], Value::Bool, true),
    honoured(
        "localThresholdMS",
        &["secondaryAcceptableLatencyMS", "secondary_acceptable_latency_ms", "acceptableLatencyMS"],
        Value::Number(0, ANY),
        false,
    ),
    honoured("maxAdaptiveRetries", &[], Value::Number(0, ANY), false),
    honoured("maxConnecting", &[], Value::Number(1, ANY), true),
    honoured("maxIdleTimeMS", &[], Value::Millis(1), true),
    honoured("maxPoolSize", &["poolSize", "max_pool_size"], Value::Number(0, ANY), true),
    honoured("maxStalenessSeconds", &["maxStaleness"], Value::Number(-1, ANY), false),
    honoured("minPoolSize", &["min_pool_size"], Value::Number(0, ANY), true),
    honoured("readPreference", &["read_preference"], MODES, false),
    honoured("readPreferenceTags", &["read_preference_tags"], Value::Tags, false),
    honoured("replicaSet", &["rs_name", "set"], Value::Text, false),
    honoured("retryReads", &[], Value::Bool, true),
    honoured("retryWrites", &[], Value::Bool, false),
    honoured("serverMonitoringMode", &[], MONITORING, false),
    honoured("serverSelectionTimeoutMS", &["serverSelectionTimeout"], Value::Millis(1), true),
    honoured("srvMaxHosts", &[], Value::Number(0, ANY), false),
    honoured("srvServiceName", &[], Value::Text, false),
    honoured("tls", &["ssl"], Value::Bool, true),
    honoured("tlsAllowInvalidCertificates", &["sslAllowInvalidCertificates"], Value::Bool, true),
    honoured(
        "tlsAllowInvalidHostnames",
        &["sslAllowInvalidHostnames", "sslInvalidHostNameAllowed"],
        Value::Bool,
        false,
    ),
    honoured("tlsCAFile", &["ssl_ca_certs", "sslCA", "sslCertificateAuthorityFile"], Value::Text, true),
    honoured(
        "tlsCertificateKeyFile",
        &["sslClientCertificateKeyFile", "ssl_certfile", "sslPEMKeyFile"],
        Value::Text,
        true,
    ),
    honoured(
        "tlsCertificateKeyFilePassword",
        &["sslClientCertificateKeyPassword", "ssl_pem_passphrase", "sslPass", "sslPEMKeyPassword"],
        Value::Text,
        true,
    ),
    honoured("tlsInsecure", &["sslInsecure", "allowInsecureTls"], Value::Bool, true),
    honoured("w", &[], Value::Concern, false),
    honoured("zlibCompressionLevel", &[], Value::Number(-1, 9), true),
    honoured("zstdCompressionLevel", &[], Value::Number(-1, 22), true),
];

/// An option that is translated into an honoured one.
#[derive(Debug)]
pub struct Translated {
    /// Its name.
    pub name: &'static str,
    /// The value that is translated.
    pub value: &'static str,
    /// The honoured option.
    pub option: &'static str,
    /// The value of the honoured option.
    pub becomes: &'static str,
    /// Other values, which are accepted and have no effect.
    pub(super) others: &'static [&'static str],
}

const fn translated(
    name: &'static str,
    value: &'static str,
    option: &'static str,
    becomes: &'static str,
    others: &'static [&'static str],
) -> Translated {
    Translated { name, value, option, becomes, others }
}

/// The options of other drivers that are translated.
pub const TRANSLATED: &[Translated] = &[
    translated(
        "connect",
        "direct",
        "directConnection",
        "true",
        &["automatic", "replicaSet", "sharded", "shardRouter", "true", "false"],
    ),
    translated("slaveOk", "true", "readPreference", "secondaryPreferred", &["false"]),
    translated("slave_okay", "true", "readPreference", "secondaryPreferred", &["false"]),
    translated("sslValidate", "false", "tlsAllowInvalidCertificates", "true", &["true"]),
    translated("sslVerifyCertificate", "false", "tlsAllowInvalidCertificates", "true", &["true"]),
    translated("rejectUnauthorized", "false", "tlsAllowInvalidCertificates", "true", &["true"]),
    translated(
        "ssl_cert_reqs",
        "CERT_NONE",
        "tlsAllowInvalidCertificates",
        "true",
        &["CERT_OPTIONAL", "CERT_REQUIRED"],
    ),
    translated("ssl_match_hostname", "false", "tlsAllowInvalidHostnames", "true", &["true"]),
    translated("checkServerIdentity", "false", "tlsAllowInvalidHostnames", "true", &["true"]),
];

/// Options that are ignored, and why.
#[derive(Debug)]
pub struct Ignored {
    /// Why.
    pub why: &'static str,
    /// Their names.
    pub names: &'static [&'static str],
}

/// The options that are ignored with a warning.
pub const IGNORED: &[Ignored] = &[
    Ignored {
        why: "stall_timeout limits how long an answer may take",
        names: &[
            "socketTimeoutMS",
            "socketTimeout",
            "timeoutMS",
            "wtimeoutMS",
            "wtimeout",
            "maxTimeMS",
            "network_timeout",
            "waitQueueTimeoutMS",
            "waitQueueTimeout",
            "heartbeatSocketTimeoutMS",
            "heartbeatConnectTimeoutMS",
        ],
    },
    Ignored {
        why: "documents are copied byte by byte",
        names: &[
            "uuidRepresentation",
            "guids",
            "tz_aware",
            "tzinfo",
            "document_class",
            "datetime_conversion",
            "unicode_decode_error_handler",
            "promoteValues",
            "promoteLongs",
            "promoteBuffers",
            "bsonRegExp",
            "raw",
            "ignoreUndefined",
            "serializeFunctions",
            "enableUtf8Validation",
            "useBigInt64",
            "fieldsAsRaw",
            "checkKeys",
        ],
    },
    Ignored {
        why: "the setting consistency decides what is read",
        names: &["readConcernLevel", "readConcern"],
    },
    Ignored {
        why: "connections are opened as they are needed",
        names: &[
            "waitQueueMultiple",
            "waitQueueSize",
            "maxLifeTimeMS",
            "maxConnectionLifeTimeMS",
            "maxLifeTime",
            "maxIdleTime",
            "maintenanceFrequencyMS",
            "maintenanceInitialDelayMS",
        ],
    },
    Ignored {
        why: "lost connections are always opened again, and TCP keepalive is always on",
        names: &[
            "autoReconnect",
            "auto_reconnect",
            "reconnectTries",
            "reconnectInterval",
            "numberOfRetries",
            "retryMiliSeconds",
            "keepAlive",
            "keepAliveInitialDelay",
            "keepAliveMS",
            "socketKeepAlive",
            "noDelay",
            "tcpNoDelay",
            "connectWithNoPrimary",
            "bufferMaxEntries",
            "bufferCommands",
            "bufferTimeoutMS",
            "ha",
            "haInterval",
            "serverSelectionTryOnce",
            "socketCheckIntervalMS",
            "rescanSrvIntervalMS",
            "minHeartbeatFrequencyMS",
            "adaptiveRetries",
        ],
    },
    Ignored {
        why: "a restore always waits for the server's answer",
        names: &["safe", "fsync", "writeConcern", "forceServerObjectId"],
    },
    Ignored {
        why: "it is for other login mechanisms",
        names: &["gssapiServiceName", "authMechanismProperties", "canonicalizeHostname"],
    },
    Ignored {
        why: "certificates are checked without asking their issuer whether they were revoked",
        names: &["tlsDisableOCSPEndpointCheck", "tlsDisableCertificateRevocationCheck"],
    },
    Ignored {
        why: "it concerns the driver of an application",
        names: &[
            "useNewUrlParser",
            "useUnifiedTopology",
            "useCreateIndex",
            "useFindAndModify",
            "useRecoveryToken",
            "native_parser",
            "nativeParser",
            "autoIndex",
            "autoCreate",
            "dbName",
            "validateOptions",
            "monitoring",
            "monitorCommands",
            "domainsEnabled",
            "loggerLevel",
            "logger",
            "family",
            "autoSelectFamily",
            "ipv6",
            "use_greenlets",
            "streamType",
            "cursorFinalizerEnabled",
            "alwaysUseMBeans",
            "driverInfo",
            "serverApi",
            "autoEncryption",
        ],
    },
];

/// Unsupported options that cannot be ignored: without them the connection would not be the one that was asked for.
#[derive(Debug)]
pub struct Refused {
    /// Their names.
    pub names: &'static [&'static str],
    /// What to do instead.
    pub instead: &'static str,
}

/// The options that are refused.
pub const REFUSED: &[Refused] = &[
    Refused {
        names: &["tlsCertificateFile", "tlsPrivateKeyFile", "sslCert", "sslKey", "ssl_keyfile"],
        instead: "Put certificate and key into one file (`cat CERTIFICATE KEY > client.pem; chmod 600 client.pem`) and \
                  name it with tlsCertificateKeyFile",
    },
    Refused {
        names: &["tlsCRLFile", "sslCRL", "ssl_crlfile"],
        instead: "Revocation lists are not supported: leave the option out if the certificates may be trusted without them",
    },
    Refused {
        names: &["proxyHost", "proxyPort", "proxyUsername", "proxyPassword"],
        instead: "SOCKS proxies are not supported: reach the server through a tunnel, such as `ssh -L`, and name the \
                  tunnel's end",
    },
];
