//! Extracts the commands of a text.

/// A heading, and the blocks of commands below it.
pub type Section = (String, Vec<String>);

/// The sections of a Markdown page that have commands.
///
/// # Panics
///
/// Panics if a block of code has a language that no shell runs.
pub fn sections(page: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut heading = "";
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            if language == "js" || language == "text" {
                // A user, which pages::users creates, or a message.
                lines.by_ref().take_while(|line| *line != "```").for_each(drop);
                continue;
            }
            assert_eq!(language, "sh", "a block of code below '{heading}'");
            let block = lines.by_ref().take_while(|line| *line != "```").collect::<Vec<_>>().join("\n");
            match sections.last_mut().filter(|(last, _)| last == heading) {
                Some((_, blocks)) => blocks.push(block),
                None => sections.push((heading.into(), vec![block])),
            }
        } else if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        }
    }
    sections
}

/// The indented blocks of a plain text.
pub fn indented(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        match line.strip_prefix("    ") {
            Some(command) if open => {
                blocks.last_mut().expect("one is open").push_str(&format!("\n{command}"))
            }
            Some(command) => blocks.push(command.into()),
            None => {}
        }
        open = line.starts_with("    ");
    }
    blocks
}

#[test]
fn blocks_are_found_by_their_heading() {
    let page = "# A\ntext\n## B\n```sh\none\n\ntwo\n```\nx\n```sh\nthree\n```\n### C\n";
    assert_eq!(sections(page), [("B".to_string(), vec!["one\n\ntwo".to_string(), "three".to_string()])]);
    assert_eq!(indented("a\n    b\n      c\n\n    d\n"), ["b\n  c", "d"]);
}
