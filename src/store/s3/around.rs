//! What the environment says about the way to the service: the proxy of its requests and the source of its credentials.
//!
//! The SDK reads the same variables; they are read here so that an error can name them.

use std::env;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::config::store::S3Options;

/// The environment of a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Around {
    /// The proxy that requests go through.
    pub proxy: Option<Proxy>,
    /// The profile that `AWS_PROFILE` names.
    pub profile: Option<String>,
    /// The file that `AWS_WEB_IDENTITY_TOKEN_FILE` names.
    pub web_identity: Option<String>,
}

/// A proxy, without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// The variable that names it: `HTTPS_PROXY`.
    pub variable: String,
    /// Its address, `http://proxy:3128`, without user and password.
    pub address: String,
}

impl Around {
    pub fn of(options: &S3Options) -> Around {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        Around {
            proxy: proxy(options, set),
            profile: set("AWS_PROFILE"),
            web_identity: set("AWS_WEB_IDENTITY_TOKEN_FILE"),
        }
    }
}

fn proxy(options: &S3Options, set: impl Fn(&str) -> Option<String>) -> Option<Proxy> {
    let region = options.region.as_deref().unwrap_or("us-east-1");
    let amazon = || format!("https://{}.s3.{region}.amazonaws.com", options.bucket);
    let service: Uri = options.endpoint_url.clone().unwrap_or_else(amazon).parse().ok()?;
    let uri = Matcher::from_env().intercept(&service)?.uri().clone();
    let own = format!("{}_PROXY", service.scheme_str()?.to_ascii_uppercase());
    let names = [own.clone(), own.to_ascii_lowercase(), "ALL_PROXY".into(), "all_proxy".into()];
    let variable = names.into_iter().find(|name| set(name).is_some())?;
    // The matcher takes the login out of the address.
    Some(Proxy {
        variable,
        address: format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority()?.as_str()),
    })
}
