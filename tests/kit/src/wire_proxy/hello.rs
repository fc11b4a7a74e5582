//! Keeps clients on the proxy: a driver uses the host names in the answer to `hello`, not those in its URI.

use std::collections::BTreeMap;

use bson::{Bson, Document, RawDocument};

use super::message::Message;
use crate::raw;

/// Pairs of a server's `host:port` and the `host:port` of the proxy for it.
pub(super) type HostMap = BTreeMap<String, String>;

/// Removes the offer to compress from the client's handshake, because a compressed message cannot be rewritten.
pub(super) fn strip_request(request: &mut Message) {
    if let Some(document) = request.document() {
        let plain = raw::rewrite(document, &["compression"], &|_, _| None);
        request.set_document(&plain);
    }
}

/// Replaces the servers' names in the answer by the proxy's names.
pub(super) fn rewrite_answer(answer: &mut Message, hosts: &HostMap) {
    let Some(bytes) = answer.document() else { return };
    let Ok(mut document) = RawDocument::from_bytes(bytes).and_then(Document::try_from) else { return };
    document.remove("compression");
    let rename = |value: &mut Bson| {
        if let Some(new) = value.as_str().and_then(|host| hosts.get(host)) {
            *value = Bson::String(new.clone());
        }
    };
    for key in ["me", "primary"] {
        document.get_mut(key).map(rename);
    }
    for key in ["hosts", "passives", "arbiters"] {
        if let Some(Bson::Array(list)) = document.get_mut(key) {
            list.iter_mut().for_each(rename);
        }
    }
    if let Ok(bytes) = document.to_vec() {
        answer.set_document(&bytes);
    }
}
