//! Rules: conditions on commands, and actions.

use super::action::Action;
use super::log::Command;
use crate::raw;

/// A condition and an action. If several rules match a command, the first rule acts.
///
/// `Rule::on("getMore").namespace("shop.*").from(3).times(1).then(Action::Close)` closes the connection at the
/// third `getMore` on the database `shop`, once.
#[derive(Clone, Debug)]
pub struct Rule {
    command: String,
    namespace: Option<String>,
    having: Option<String>,
    member: Option<usize>,
    skip: u64,
    times: u64,
    pub(super) action: Action,
    pub(super) seen: u64,
    pub(super) hits: u64,
}

impl Rule {
    /// A rule for this command. `hello` stands for all its names, `*` for every command except hello.
    pub fn on(command: &str) -> Rule {
        Rule {
            command: command.to_owned(),
            namespace: None,
            having: None,
            member: None,
            skip: 0,
            times: u64::MAX,
            action: Action::Pass,
            seen: 0,
            hits: 0,
        }
    }

    /// Limits the rule to namespaces that match. `*` stands for any characters.
    pub fn namespace(mut self, pattern: &str) -> Rule {
        self.namespace = Some(pattern.to_owned());
        self
    }

    /// Limits the rule to commands that have this field.
    pub fn having(mut self, field: &str) -> Rule {
        self.having = Some(field.to_owned());
        self
    }

    /// Limits the rule to the member with this index.
    pub fn member(mut self, member: usize) -> Rule {
        self.member = Some(member);
        self
    }

    /// Acts from the nth occurrence on. The first is 1.
    pub fn from(mut self, nth: u64) -> Rule {
        self.skip = nth.saturating_sub(1);
        self
    }

    /// Acts this number of times, then never again.
    pub fn times(mut self, times: u64) -> Rule {
        self.times = times;
        self
    }

    /// Acts only at the nth occurrence.
    pub fn nth(self, nth: u64) -> Rule {
        self.from(nth).times(1)
    }

    pub fn then(mut self, action: Action) -> Rule {
        self.action = action;
        self
    }

    /// Counts the command if it matches. Returns true if the rule acts on it.
    pub(super) fn acts_on(&mut self, command: &Command, document: &[u8]) -> bool {
        let hello = is_hello(&command.name);
        let name = match self.command.as_str() {
            "*" => !hello,
            "hello" => hello,
            name => name == command.name,
        };
        let matches = name
            && self.member.is_none_or(|member| member == command.member)
            && self.namespace.as_ref().is_none_or(|pattern| glob(pattern, &command.namespace))
            && self.having.as_ref().is_none_or(|field| raw::get(document, &[field]).is_some());
        if !matches {
            return false;
        }
        self.seen += 1;
        let acts = self.seen > self.skip && self.hits < self.times;
        self.hits += u64::from(acts);
        acts
    }
}

pub(super) fn is_hello(name: &str) -> bool {
    name == "hello" || name.eq_ignore_ascii_case("ismaster")
}

fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text.strip_prefix(start).is_some_and(|text| {
            let ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.into_iter().any(|at| glob(rest, &text[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_pattern_matches_any_characters_at_its_stars() {
        for (pattern, text, expected) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b.c", true),
            ("*.c", "a.b.c", true),
            ("a*c", "a.b", false),
            ("*", "", true),
            ("ü*ü", "üxü", true),
        ] {
            assert_eq!(super::glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
