//! The options of connection strings that are honoured, translated, ignored or refused, as drivers and applications spell
//! them. docs/configuration.md shows these tables. Lists of names and words are separated by spaces.

use OptionValue::{Bool, Millis, Number, Text};

/// The valid values of an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionValue {
    Text,
    /// `true` or `false`.
    Bool,
    /// Milliseconds, not below this value. Zero means "no limit" in other drivers.
    Millis(u64),
    /// A whole number within these bounds.
    Number(i64, i64),
    /// One of these words, in any letter case.
    OneOf(&'static str),
    /// Comma-separated names.
    Compressors,
    /// Comma-separated `key:value` pairs, or nothing.
    Tags,
    /// A number of members, or the name of a write concern.
    Concern,
}

/// An option that is honoured.
#[derive(Debug)]
pub struct Honoured {
    /// The name in the MongoDB manual.
    pub name: &'static str,
    /// Other names of the option.
    pub spellings: &'static str,
    pub(super) value: OptionValue,
    /// True if mongodump gets the option, too. Mongodump reads one member, and writes nothing.
    pub(super) for_mongodump: bool,
}

const fn honoured(
    name: &'static str,
    spellings: &'static str,
    value: OptionValue,
    for_mongodump: bool,
) -> Honoured {
    Honoured { name, spellings, value, for_mongodump }
}

const MODES: OptionValue =
    OptionValue::OneOf("primary primaryPreferred secondary secondaryPreferred nearest");
const MECHANISMS: OptionValue =
    OptionValue::OneOf("SCRAM-SHA-1 SCRAM-SHA-256 MONGODB-X509 PLAIN DEFAULT MONGODB-CR");
const MONITORING: OptionValue = OptionValue::OneOf("auto stream poll");
const ANY: i64 = i32::MAX as i64;

/// In alphabetical order.
pub const HONOURED: &[Honoured] = &[
    honoured("appName", "application_name", Text, true),
    honoured("authMechanism", "", MECHANISMS, true),
    honoured("authSource", "", Text, true),
    honoured("compressors", "compression", OptionValue::Compressors, true),
    honoured("connectTimeoutMS", "connectTimeout", Millis(1), true),
    honoured("directConnection", "", Bool, false),
    honoured("enableOverloadRetargeting", "", Bool, false),
    honoured("heartbeatFrequencyMS", "heartbeatIntervalMS", Millis(500), true),
    honoured("journal", "j", Bool, false),
    honoured("loadBalanced", "", Bool, true),
    honoured(
        "localThresholdMS",
        "secondaryAcceptableLatencyMS secondary_acceptable_latency_ms acceptableLatencyMS",
        Number(0, ANY),
        false,
    ),
    honoured("maxAdaptiveRetries", "", Number(0, ANY), false),
    honoured("maxConnecting", "", Number(1, ANY), true),
    honoured("maxIdleTimeMS", "", Millis(1), true),
    honoured("maxPoolSize", "poolSize max_pool_size", Number(0, ANY), true),
    honoured("maxStalenessSeconds", "maxStaleness", Number(-1, ANY), false),
    honoured("minPoolSize", "min_pool_size", Number(0, ANY), true),
    honoured("readPreference", "read_preference", MODES, false),
    honoured("readPreferenceTags", "read_preference_tags", OptionValue::Tags, false),
    honoured("replicaSet", "rs_name set", Text, false),
    honoured("retryReads", "", Bool, true),
    honoured("retryWrites", "", Bool, false),
    honoured("serverMonitoringMode", "", MONITORING, false),
    honoured("serverSelectionTimeoutMS", "serverSelectionTimeout", Millis(1), true),
    honoured("srvMaxHosts", "", Number(0, ANY), false),
    honoured("srvServiceName", "", Text, false),
    honoured("tls", "ssl", Bool, true),
    honoured("tlsAllowInvalidCertificates", "sslAllowInvalidCertificates", Bool, true),
    honoured("tlsAllowInvalidHostnames", "sslAllowInvalidHostnames sslInvalidHostNameAllowed", Bool, false),
    honoured("tlsCAFile", "ssl_ca_certs sslCA sslCertificateAuthorityFile", Text, true),
    honoured("tlsCertificateKeyFile", "sslClientCertificateKeyFile ssl_certfile sslPEMKeyFile", Text, true),
    honoured(
        "tlsCertificateKeyFilePassword",
        "sslClientCertificateKeyPassword ssl_pem_passphrase sslPass sslPEMKeyPassword",
        Text,
        true,
    ),
    honoured("tlsInsecure", "sslInsecure allowInsecureTls", Bool, true),
    honoured("w", "", OptionValue::Concern, false),
    honoured("zlibCompressionLevel", "", Number(-1, 9), true),
    honoured("zstdCompressionLevel", "", Number(-1, 22), true),
];

/// An option that is translated into an honoured one.
#[derive(Debug)]
pub struct Translated {
    pub name: &'static str,
    pub value: &'static str,
    /// The honoured option.
    pub option: &'static str,
    /// The value of the honoured option.
    pub becomes: &'static str,
    /// Other values, which have no effect.
    pub(super) others: &'static str,
}

const fn translated(
    name: &'static str,
    value: &'static str,
    option: &'static str,
    becomes: &'static str,
    others: &'static str,
) -> Translated {
    Translated { name, value, option, becomes, others }
}

pub const TRANSLATED: &[Translated] = &[
    translated(
        "connect",
        "direct",
        "directConnection",
        "true",
        "automatic replicaSet sharded shardRouter true false",
    ),
    translated("slaveOk", "true", "readPreference", "secondaryPreferred", "false"),
    translated("slave_okay", "true", "readPreference", "secondaryPreferred", "false"),
    translated("sslValidate", "false", "tlsAllowInvalidCertificates", "true", "true"),
    translated("sslVerifyCertificate", "false", "tlsAllowInvalidCertificates", "true", "true"),
    translated("rejectUnauthorized", "false", "tlsAllowInvalidCertificates", "true", "true"),
    translated(
        "ssl_cert_reqs",
        "CERT_NONE",
        "tlsAllowInvalidCertificates",
        "true",
        "CERT_OPTIONAL CERT_REQUIRED",
    ),
    translated("ssl_match_hostname", "false", "tlsAllowInvalidHostnames", "true", "true"),
    translated("checkServerIdentity", "false", "tlsAllowInvalidHostnames", "true", "true"),
];

/// Options that are ignored for the same reason.
#[derive(Debug)]
pub struct Ignored {
    pub why: &'static str,
    pub names: &'static str,
}

/// Each has a warning.
pub const IGNORED: &[Ignored] = &[
    Ignored {
        why: "stall_timeout limits how long an answer may take",
        names: "socketTimeoutMS socketTimeout timeoutMS wtimeoutMS wtimeout maxTimeMS network_timeout \
                waitQueueTimeoutMS waitQueueTimeout heartbeatSocketTimeoutMS heartbeatConnectTimeoutMS",
    },
    Ignored {
        why: "documents are copied byte by byte",
        names: "uuidRepresentation guids tz_aware tzinfo document_class datetime_conversion \
                unicode_decode_error_handler promoteValues promoteLongs promoteBuffers bsonRegExp raw \
                ignoreUndefined serializeFunctions enableUtf8Validation useBigInt64 fieldsAsRaw checkKeys",
    },
    Ignored { why: "the setting consistency decides what is read", names: "readConcernLevel readConcern" },
    Ignored {
        why: "connections are opened as they are needed",
        names: "waitQueueMultiple waitQueueSize maxLifeTimeMS maxConnectionLifeTimeMS maxLifeTime \
                maxIdleTime maintenanceFrequencyMS maintenanceInitialDelayMS",
    },
    Ignored {
        why: "lost connections are always opened again, and TCP keepalive is always on",
        names: "autoReconnect auto_reconnect reconnectTries reconnectInterval numberOfRetries \
                retryMiliSeconds keepAlive keepAliveInitialDelay keepAliveMS socketKeepAlive noDelay \
                tcpNoDelay connectWithNoPrimary bufferMaxEntries bufferCommands bufferTimeoutMS ha \
                haInterval serverSelectionTryOnce socketCheckIntervalMS rescanSrvIntervalMS \
                minHeartbeatFrequencyMS adaptiveRetries",
    },
    Ignored {
        why: "a restore always waits for the server's answer",
        names: "safe fsync writeConcern forceServerObjectId",
    },
    Ignored {
        why: "only other login mechanisms use it",
        names: "gssapiServiceName authMechanismProperties canonicalizeHostname",
    },
    Ignored {
        why: "certificates are checked without asking their issuer whether they were revoked",
        names: "tlsDisableOCSPEndpointCheck tlsDisableCertificateRevocationCheck",
    },
    Ignored {
        why: "only the driver of an application uses it",
        names: "useNewUrlParser useUnifiedTopology useCreateIndex useFindAndModify useRecoveryToken \
                native_parser nativeParser autoIndex autoCreate dbName validateOptions monitoring \
                monitorCommands domainsEnabled loggerLevel logger family autoSelectFamily ipv6 use_greenlets \
                streamType cursorFinalizerEnabled alwaysUseMBeans driverInfo serverApi autoEncryption",
    },
];

/// Unsupported options that cannot be ignored, because the connection would be different without them.
#[derive(Debug)]
pub struct Refused {
    pub names: &'static str,
    /// The next step.
    pub instead: &'static str,
}

pub const REFUSED: &[Refused] = &[
    Refused {
        names: "tlsCertificateFile tlsPrivateKeyFile sslCert sslKey ssl_keyfile",
        instead: "Put certificate and key into one file (`cat CERTIFICATE KEY > client.pem; chmod 600 client.pem`) and \
                  name it with tlsCertificateKeyFile",
    },
    Refused {
        names: "tlsCRLFile sslCRL ssl_crlfile",
        instead: "Revocation lists are not supported: leave the option out if the certificates may be trusted without them",
    },
    Refused {
        names: "proxyHost proxyPort proxyUsername proxyPassword",
        instead: "SOCKS proxies are not supported: reach the server through a tunnel, such as `ssh -L`, and name the \
                  tunnel's end",
    },
];
