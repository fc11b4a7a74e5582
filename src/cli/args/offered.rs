//! What a shell completes: the words that a value can be, and which kind of path.

use std::ffi::OsStr;
use std::str::FromStr;

use clap::builder::{PossibleValue, TypedValueParser, ValueHint};
use clap::{Arg, Command, Error};

/// Parses as `T` does, whose words for a mistake stay, and offers these values to the shells.
pub fn offered<T>(values: impl IntoIterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: Into<Box<dyn std::error::Error + Send + Sync>> + 'static> + Clone + Send + Sync + 'static,
{
    let parse: fn(&str) -> Result<T, T::Err> = str::parse;
    Offered { parse, values: values.into_iter().collect() }
}

#[derive(Clone)]
struct Offered<P> {
    parse: P,
    values: Vec<&'static str>,
}

impl<P: TypedValueParser> TypedValueParser for Offered<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, text: &OsStr) -> Result<P::Value, Error> {
        self.parse.parse_ref(command, arg, text)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().map(PossibleValue::new)))
    }
}

/// Tells the shells which values are paths, by the names that the help gives them: no other is completed with
/// the names of files.
pub fn hinted(command: Command) -> Command {
    let hint = |arg: Arg| {
        if !arg.get_action().takes_values() {
            return arg;
        }
        let hint = match arg.get_value_names().and_then(|names| names.first()).map(|name| name.as_str()) {
            Some("DIR") => ValueHint::DirPath,
            Some("FILE") => ValueHint::FilePath,
            Some("PATH") => ValueHint::AnyPath,
            _ => ValueHint::Other,
        };
        arg.value_hint(hint)
    };
    command.mut_args(hint).mut_subcommands(|command| command.mut_args(hint))
}
