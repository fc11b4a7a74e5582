//! docs/stats.svg: the head of the sample page and its charts as one picture, for the README. It is composed from the page's
//! own markup, and needs no browser.

use std::fmt::Write;
use std::path::Path;

use super::*;

const WIDTH: f64 = 820.0;
const MARGIN: f64 = 28.0;
const INNER: f64 = WIDTH - 2.0 * MARGIN;
/// The gap between two columns of charts.
const GAP: f64 = 24.0;
/// The rules of the style sheet for the elements of charts.
const RULES: [&str; 10] =
    [".grid", ".drawn", ".area", ".dot", ".cross", ".w0", ".w1", ".w2", ".w3", ".hover"];

/// The texts between each `open` and the `close` that follows it.
fn parts<'a>(text: &'a str, open: &str, close: &'a str) -> Vec<&'a str> {
    text.split(open).skip(1).filter_map(|part| part.split_once(close)).map(|(inner, _)| inner).collect()
}

fn part<'a>(text: &'a str, open: &str, close: &'a str) -> &'a str {
    parts(text, open, close).first().unwrap_or_else(|| panic!("no {open} in the page"))
}

/// The text without tags.
fn plain(html: &str) -> String {
    html.split('<').map(|piece| piece.split_once('>').map_or(piece, |(_, text)| text)).collect()
}

/// The text with the colours of the light page in place of their names, because not every viewer of pictures knows names.
fn coloured(css: &str, page: &str) -> String {
    let root = part(page, ":root {", "}");
    let colours = root.split(';').filter_map(|rule| rule.trim().strip_prefix("--")?.split_once(": "));
    colours.fold(css.to_string(), |css, (name, colour)| css.replace(&format!("var(--{name})"), colour))
}

/// A length in percent of the width.
fn share(style: &str, key: &str) -> f64 {
    let percent: f64 = part(style, &format!("{key}: "), "%").parse().expect("a number");
    INNER * percent / 100.0
}

struct Picture {
    body: String,
    y: f64,
}

impl Picture {
    fn text(&mut self, x: f64, class: &str, text: &str) {
        let y = self.y;
        writeln!(self.body, r#"<text class="{class}" x="{x:.1}" y="{y:.1}">{text}</text>"#).unwrap();
    }

    fn rect(&mut self, (x, width): (f64, f64), (above, height): (f64, f64), style: &str) {
        let y = self.y + above;
        let place = format!(r#"x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}""#);
        writeln!(self.body, "<rect {place} {style}/>").unwrap();
    }

    /// The status, the headline and the figures of the page's head.
    fn head(&mut self, page: &str) {
        self.y += 22.0;
        self.text(MARGIN, "soft", &plain(part(page, "<p class=\"soft\">", "</p>")));
        self.y += 30.0;
        self.text(MARGIN, "h1", part(page, "<h1 id=\"health\">", "</h1>"));
        self.text(WIDTH - MARGIN, "word", part(page, "<span class=\"word\">", "</span>"));
        let cards = parts(page, "<div><dt>", "</dd>");
        let width = INNER / 3.0;
        for row in cards.chunks(3) {
            self.y += 16.0;
            for (column, card) in row.iter().enumerate() {
                let x = MARGIN + width * column as f64;
                let (label, value) = card.split_once("</dt>").expect("a value");
                self.rect((x, width - 10.0), (0.0, 50.0), r##"rx="6" fill="#fff" stroke="#d8dee4""##);
                self.y += 20.0;
                self.text(x + 12.0, "soft", label);
                self.y += 20.0;
                self.text(x + 12.0, "value", &plain(value));
                self.y -= 40.0;
            }
            self.y += 50.0;
        }
    }

    fn ribbon(&mut self, page: &str) {
        let ribbon = part(page, "<div class=\"ribbon\"", "</div>");
        self.y += 34.0;
        self.text(MARGIN, "h2", "Points in time");
        self.y += 10.0;
        self.rect((MARGIN, INNER), (0.0, 34.0), r##"fill="#f6f8fa" stroke="#d8dee4""##);
        for band in parts(ribbon, "<i class=\"", "></i>") {
            let fill = if band.starts_with("span") { "#1a7f37" } else { "#f3b8b2" };
            let x = MARGIN + share(band, "left");
            self.rect((x, share(band, "width").max(2.0)), (0.0, 34.0), &format!(r#"fill="{fill}""#));
        }
        for base in parts(ribbon, "<b style=\"", "></b>") {
            self.rect((MARGIN + share(base, "left"), 2.0), (19.0, 15.0), r##"fill="#1f2328""##);
        }
        self.y += 50.0;
        for tick in parts(ribbon, "<span", "</span>") {
            let (attributes, label) = tick.split_once('>').expect("a label");
            let class = match attributes {
                first if first.contains("\"first\"") => "tick",
                last if last.contains("\"last\"") => "tick end",
                _ => "tick middle",
            };
            self.text(MARGIN + share(attributes, "left"), class, label);
        }
    }

    fn charts(&mut self, page: &str) {
        let column = (INNER - GAP) / 2.0;
        let height = column * 190.0 / 360.0;
        let over_time = part(page, "<h2 id=\"charts\">", "</section>");
        for row in parts(over_time, "<figure", "</figure>").chunks(2) {
            self.y += 34.0;
            for (n, figure) in row.iter().enumerate() {
                let x = MARGIN + (column + GAP) * n as f64;
                self.text(x, "h2", part(figure, "<figcaption>", "</figcaption>"));
                let drawing = part(figure, "<svg viewBox=\"0 0 360 190\"", "</svg>");
                let drawing = drawing.split_once('>').expect("the end of the tag").1;
                let place =
                    format!(r#"x="{x:.1}" y="{:.1}" width="{column:.1}" height="{height:.1}""#, self.y + 8.0);
                writeln!(self.body, r#"<svg viewBox="0 0 360 190" {place}>{drawing}</svg>"#).unwrap();
                let mut at = x + 24.0;
                for (layer, name) in parts(figure, "&#160;</i> ", "</li>").into_iter().enumerate() {
                    self.rect((at, 10.0), (height + 10.0, 10.0), &format!(r#"class="w{layer}""#));
                    self.y += height + 19.0;
                    self.text(at + 14.0, "tick", name);
                    self.y -= height + 19.0;
                    at += 30.0 + 6.0 * name.len() as f64;
                }
            }
            self.y += height + 20.0;
        }
    }
}

fn picture(page: &str) -> String {
    let mut picture = Picture { body: String::new(), y: 12.0 };
    picture.head(page);
    picture.ribbon(page);
    picture.charts(page);
    let style = part(page, "<style>", "</style>").replace('\n', " ");
    let rules =
        RULES.map(|name| format!("{name} {{{}}}\n", part(&style, &format!("}} {name} {{"), "}"))).concat();
    let font = part(&style, "font: 15px/1.5 ", ";");
    let height = picture.y + 10.0;
    let css = format!(
        "text {{ font-family: {font}; font-size: 11px; fill: var(--soft); }}\n.soft {{ font-size: 13px; }}\n\
         .h1 {{ font-size: 24px; font-weight: 700; fill: var(--ink); }}\n\
         .h2 {{ font-size: 15px; font-weight: 600; fill: var(--ink); }}\n\
         .value {{ font-size: 17px; font-weight: 600; fill: var(--ink); }}\n\
         .word {{ font-size: 15px; font-weight: 600; fill: var(--good); text-anchor: end; }}\n\
         .middle {{ text-anchor: middle; }} .end {{ text-anchor: end; }}\n{rules}"
    );
    let job = plain(part(page, "<title>", "</title>"));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" width=\"{WIDTH}\" \
         height=\"{height:.0}\" role=\"img\" aria-labelledby=\"title\">\n<title id=\"title\">{job}</title>\n\
         <style>\n{}</style>\n<rect width=\"{WIDTH}\" height=\"{height:.0}\" fill=\"#fff\"/>\n{}</svg>\n",
        coloured(&css, page),
        picture.body
    )
}

/// Every tag of the picture is closed, and nothing is loaded from elsewhere.
fn is_sound(picture: &str) {
    let mut open: Vec<&str> = Vec::new();
    for tag in picture.split('<').skip(1) {
        let (inner, _) = tag.split_once('>').expect("the end of a tag");
        let name = inner.trim_start_matches('/').split([' ', '/']).next().expect("a name");
        match (inner.starts_with('/'), inner.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (_, true) => {}
            (false, false) => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(!picture.contains("var(--") && !picture.contains("NaN"), "a name of a colour, or no number");
    for word in ["href", "url(", "@import", "<script", "<image", "<foreignObject"] {
        assert!(!picture.contains(word), "{word}");
    }
    assert_eq!(picture.matches("http").count(), 1, "the namespace alone");
    assert!(picture.len() < 120_000, "{} bytes", picture.len());
}

#[test]
fn docs_stats_svg_is_the_picture_of_the_sample() {
    let sender = Sender { tool: "uzima-backup".into(), host: "backup1.example.com".into() };
    let page = render(&sample(), &sender, &Redactor::default());
    let picture = picture(&page);
    is_sound(&picture);
    assert_eq!(picture.matches("viewBox=\"0 0 360 190\"").count(), 4, "the charts over time");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/stats.svg");
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(&path, &picture).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == picture, "docs/stats.svg: UPDATE_GENERATED=1 cargo test --lib page");
}
