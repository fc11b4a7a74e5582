//! Man pages: the definition of the command line, and the exit codes, variables and files, which the definition does not
//! have.

use clap::{Arg, ArgAction};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use uzima_backup::base::exit::Exit;
use uzima_backup::config::table::{SETTINGS, Setting, by_key};

use super::pages::{FILES, VARIABLES, settings_of};

/// The page of a command, or with `is_tool` the page of the tool itself.
pub fn page(command: &clap::Command, is_tool: bool) -> Vec<u8> {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_string();
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let version = format!("uzima-backup {}", env!("CARGO_PKG_VERSION"));
    // Without a date: the page changes when the command line does.
    let man =
        Man::new(command.clone()).title(name.to_uppercase()).date("").source(version).manual("uzima-backup");
    let mut out = Vec::new();
    man.render_title(&mut out).expect("it fits");
    man.render_name_section(&mut out).expect("it fits");
    synopsis(command, is_tool).to_writer(&mut out).expect("it fits");
    man.render_description_section(&mut out).expect("it fits");
    man.render_options_section(&mut out).expect("it fits");
    if is_tool {
        man.render_subcommands_section(&mut out).expect("it fits");
    }
    let mut more = Roff::new();
    let paragraphs: Vec<&str> = help.split("\n\n").collect();
    notes(&mut more, &paragraphs);
    exit_status(&mut more, paragraph(&paragraphs, "Exit codes: ", &name));
    environment(&mut more, command.get_name(), is_tool);
    files(&mut more, command.get_name());
    examples(&mut more, paragraph(&paragraphs, "Examples:\n", &name));
    if !is_tool {
        more.control("SH", ["SEE ALSO"]).text([bold("uzima-backup"), roman("(1)")]);
    }
    more.to_writer(&mut out).expect("it fits");
    out
}

/// The synopsis: the command's own options with their values, in the order of the help, and then the global options.
fn synopsis(command: &clap::Command, is_tool: bool) -> Roff {
    let mut line = vec![bold(command.get_bin_name().unwrap_or(command.get_name()))];
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let (common, own): (Vec<&Arg>, Vec<&Arg>) = shown.partition(|arg| {
        arg.is_global_set() || matches!(arg.get_action(), ArgAction::Help | ArgAction::HelpLong)
    });
    for arg in own.into_iter().chain(common) {
        let several = matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
        let (begin, end) = if arg.is_required_set() { ("", "") } else { ("[", "]") };
        line.push(roman(format!(" {begin}")));
        line.extend(arg.get_short().map(|short| bold(format!("-{short}"))));
        line.extend((arg.get_short().is_some() && arg.get_long().is_some()).then(|| roman("|")));
        line.extend(arg.get_long().map(|long| bold(format!("--{long}"))));
        if arg.get_action().takes_values() {
            let value = arg.get_value_names().map(|names| names[0].to_string());
            line.extend((!arg.is_positional()).then(|| roman(" ")));
            line.push(italic(value.unwrap_or_else(|| arg.get_id().to_string().to_uppercase())));
        }
        line.push(roman(if several { format!("{end}...") } else { end.into() }));
    }
    if is_tool {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]).text(line);
    roff
}

/// The paragraph of the help that begins with `begins`, without this beginning.
fn paragraph<'a>(paragraphs: &[&'a str], begins: &str, name: &str) -> &'a str {
    let found = paragraphs.iter().find_map(|text| text.strip_prefix(begins));
    found.unwrap_or_else(|| panic!("the help of {name} does not say {begins:?}"))
}

/// The other paragraphs of the help.
fn notes(page: &mut Roff, paragraphs: &[&str]) {
    let known = |text: &&&str| !text.starts_with("Examples:") && !text.starts_with("Exit codes:");
    for (n, text) in paragraphs.iter().filter(known).enumerate() {
        if n == 0 {
            page.control("SH", ["NOTES"]);
        } else {
            page.control("PP", []);
        }
        page.text([roman(*text)]);
    }
}

fn entry(page: &mut Roff, head: Vec<Inline>, body: impl Into<String>) {
    page.control("TP", []).text(head).text([roman(body.into())]);
}

fn exit_status(page: &mut Roff, list: &str) {
    page.control("SH", ["EXIT STATUS"]);
    let signal = format!("{} {}", Exit::Signal(1).shown(), "ended by signal n");
    for item in list.split(" · ").chain((!list.contains("128 + n")).then_some(signal.as_str())) {
        let (code, meaning) = match item.strip_prefix("128 + n ") {
            Some(meaning) => ("128 + n", meaning),
            None => item.split_once(' ').expect("a code and its meaning"),
        };
        let known = Exit::all().any(|exit| exit.shown() == code);
        assert!(known, "there is no exit code {code}");
        entry(page, vec![bold(code)], meaning);
    }
}

fn environment(page: &mut Roff, command: &str, is_tool: bool) {
    page.control("SH", ["ENVIRONMENT"]);
    if is_tool {
        page.text([roman(
            "Each variable beats the configuration file, where the setting has the name in brackets. One that is set, \
             but empty, is an error.",
        )]);
        SETTINGS.iter().for_each(|known| setting(page, known));
        for (name, what) in VARIABLES {
            entry(page, vec![bold(*name)], *what);
        }
        return;
    }
    for key in settings_of(command) {
        setting(page, by_key(key).unwrap_or_else(|| panic!("there is no setting {key}")));
    }
    page.text([]).control("PP", []).text([
        bold("uzima-backup"),
        roman("(1) has the others. Each is a setting of the configuration file as well."),
    ]);
}

fn setting(page: &mut Roff, setting: &Setting) {
    let mut head = vec![bold(setting.env)];
    if setting.secret {
        head.extend([roman(", "), bold(format!("{}_FILE", setting.env))]);
    }
    head.push(roman(format!(" ({})", setting.key)));
    let list = if setting.list { ", with commas between" } else { "" };
    let default = setting.default.map(|value| format!("; default: {value}")).unwrap_or_default();
    entry(page, head, format!("{}{list}{default}", setting.help));
}

fn files(page: &mut Roff, command: &str) {
    page.control("SH", ["FILES"]);
    for file in FILES.iter().filter(|file| file.of.is_empty() || file.of.contains(&command)) {
        entry(page, vec![italic(file.path)], file.what);
    }
}

fn examples(page: &mut Roff, lines: &str) {
    page.control("SH", ["EXAMPLES"]).control("nf", []);
    for line in lines.lines() {
        page.text([roman(line.trim_start())]);
    }
    page.control("fi", []);
}

#[test]
fn a_synopsis_has_the_values_of_its_options() {
    let mut tool = crate::generated::tool();
    tool.build();
    let restore = tool.find_subcommand("restore").expect("a command");
    let text = String::from_utf8(page(restore, false)).expect("UTF-8");
    let line =
        text.lines().find(|line| line.starts_with(r"\fBuzima\-backup restore\fR")).expect("a synopsis");
    let in_order = [
        r"[\fIlatest|ID\fR]",
        r"[\fB\-\-job\fR \fINAME\fR]",
        r"[\fB\-\-to\-uri\fR \fIURI\fR]",
        r"[\fB\-\-ns\-include\fR \fIPATTERN\fR]...",
        r"[\fB\-\-dry\-run\fR]",
        r"[\fB\-\-config\fR \fIFILE\fR]",
    ];
    let places: Vec<Option<usize>> = in_order.iter().map(|part| line.find(part)).collect();
    assert!(places.is_sorted() && places[0].is_some(), "{places:?} {line}");
}

/// Each page that the tool's page names exists.
#[test]
fn every_command_of_the_tool_has_a_page() {
    let mut tool = crate::generated::tool();
    tool.build();
    let text = String::from_utf8(page(&tool, true)).expect("UTF-8");
    let named = text.lines().filter_map(|line| line.strip_suffix("(1)")).filter(|name| !name.contains(' '));
    let named: Vec<String> = named.map(|name| name.replace('\\', "")).collect();
    assert!(named.len() > 10, "{named:?}");
    let man = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    named.iter().for_each(|name| assert!(man.join(format!("{name}.1")).exists(), "{name}"));
}
