//! Rules that cause faults: the calls that they hit, and the faults.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// A fault of a call.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The call is not executed. The answer has this status and, in its body, this error code.
    Answer(u16, &'static str),
    /// The call is not executed. The answer is a 301 that names the bucket's region.
    OtherRegion(&'static str),
    /// The call is not executed. The answer is 400 AuthorizationHeaderMalformed, with the region only in its body.
    MalformedRegion(&'static str),
    /// The call is not executed. The answer is 200 with an `<Error>` of this code as its body.
    ErrorIn200(&'static str),
    /// The call is not executed. The answer is 403 RequestTimeTooSkewed, from a clock that is ahead of this
    /// machine's by this number of seconds.
    Skewed(i64),
    /// The call is not executed. The answer is 200 with a web page.
    WebPage,
    /// The connection is closed before the call is executed.
    LoseRequest,
    /// The call is executed, then the connection is closed without an answer.
    LoseAnswer,
    /// A bit of the request's body is flipped in transit.
    Damage,
    /// The call is executed, then the object loses this number of bytes at its end.
    Shorten(usize),
    /// The call is executed, then a bit of the object is flipped, and checksum and ETag match the damaged bytes,
    /// as if the service had joined the parts wrongly.
    Alter,
    /// A list page says that more entries follow, but has no continuation token.
    NoToken,
    /// A list page repeats the continuation token of the first page.
    SameToken,
    /// The answer's body ends after this number of bytes.
    BreakOff(usize),
    /// The answer is delayed.
    Delay(Duration),
}

/// A rule of [`Faults`]. It counts the calls that match it.
#[derive(Debug)]
pub struct Rule {
    operation: Option<String>,
    key: Option<String>,
    header: Option<String>,
    when: When,
    fault: Fault,
    seen: u64,
}

#[derive(Debug)]
enum When {
    Always,
    First(u64),
    At(u64),
    From(u64),
    Chance(f64, Box<StdRng>),
}

impl Rule {
    fn new(operation: &str, when: When, fault: Fault) -> Rule {
        let operation = (operation != "*").then(|| operation.to_owned());
        Rule { operation, key: None, header: None, when, fault, seen: 0 }
    }

    /// Hits every call of an operation. `*` stands for all operations.
    pub fn always(operation: &str, fault: Fault) -> Rule {
        Rule::new(operation, When::Always, fault)
    }

    /// Hits the first `n` calls.
    pub fn first(n: u64, operation: &str, fault: Fault) -> Rule {
        Rule::new(operation, When::First(n), fault)
    }

    /// Hits the call with this index, from 0.
    pub fn at(index: u64, operation: &str, fault: Fault) -> Rule {
        Rule::new(operation, When::At(index), fault)
    }

    /// Hits the call with this index, from 0, and all later ones.
    pub fn from(index: u64, operation: &str, fault: Fault) -> Rule {
        Rule::new(operation, When::From(index), fault)
    }

    /// Hits calls with a probability from 0 to 1. The same seed hits the same calls.
    pub fn chance(p: f64, seed: u64, operation: &str, fault: Fault) -> Rule {
        Rule::new(operation, When::Chance(p, Box::new(StdRng::seed_from_u64(seed))), fault)
    }

    /// Limits the rule to keys with this suffix.
    pub fn key(mut self, suffix: &str) -> Rule {
        self.key = Some(suffix.to_owned());
        self
    }

    /// Limits the rule to calls that have a header whose name in lower case starts with `prefix`.
    pub fn header(mut self, prefix: &str) -> Rule {
        self.header = Some(prefix.to_owned());
        self
    }

    fn hits(&mut self, operation: &str, key: &str, headers: &http::HeaderMap) -> bool {
        let matches = self.operation.as_deref().is_none_or(|o| o == operation)
            && self.key.as_deref().is_none_or(|k| key.ends_with(k))
            && self.header.as_deref().is_none_or(|h| headers.keys().any(|n| n.as_str().starts_with(h)));
        if !matches {
            return false;
        }
        let index = self.seen;
        self.seen += 1;
        match &mut self.when {
            When::Always => true,
            When::First(n) => index < *n,
            When::At(n) => index == *n,
            When::From(n) => index >= *n,
            When::Chance(p, random) => random.random_bool(*p),
        }
    }
}

/// The rules in force. If several rules hit a call, the first rule counts.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<Vec<Rule>>>);

impl Faults {
    /// Adds a rule.
    pub fn add(&self, rule: Rule) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(rule);
    }

    /// Removes all rules.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn next(&self, operation: &str, key: &str, headers: &http::HeaderMap) -> Option<Fault> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fault = None;
        for rule in rules.iter_mut() {
            if rule.hits(operation, key, headers) && fault.is_none() {
                fault = Some(rule.fault.clone());
            }
        }
        fault
    }
}
