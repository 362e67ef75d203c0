//! Pictures of stories: as they are drawn, and what holds for every picture.
//!
//! `URTEXT_UPDATE=1 cargo nextest run -p urtext-planner pictures` writes the drawings anew. Look at them
//! before you commit them: `rsvg-convert` and `dot` make images of them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use proptest::prelude::*;
use urtext_planner::{Detail, Picture, ShardView, Source, select};
use urtext_types::ReplicationId;

use crate::{
    fleet::{self, Fleet},
    properties::lines,
};

fn draw(fleet: &Fleet, detail: Detail) -> Picture {
    Picture::of(&fleet.view, &select(&fleet.view, &fleet.policy, &fleet.wish), detail)
}

#[test]
fn pictures_of_stories_are_drawn_as_they_were() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/pictures");
    let files = fs::read_dir(&folder).expect("the folder of pictures").map(|entry| entry.expect("an entry").path());
    let mut stories: Vec<_> = files.filter(|path| path.extension().is_some_and(|e| e == "story")).collect();
    stories.sort();
    assert!(stories.len() >= 4, "{} stories are left of those that there were", stories.len());
    let mut wrong = Vec::new();
    for story in stories {
        let text = fs::read_to_string(&story).expect("a story");
        let picture = draw(&fleet::parse(&text), Detail::Folded);
        for (kind, drawn) in [("txt", picture.text()), ("dot", picture.dot()), ("svg", picture.svg())] {
            let file = story.with_extension(kind);
            if std::env::var_os("URTEXT_UPDATE").is_some() {
                fs::write(&file, drawn).expect("the drawing");
            } else if fs::read_to_string(&file).ok().as_ref() != Some(&drawn) {
                wrong.push(format!("{}\n{drawn}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nURTEXT_UPDATE=1 accepts what is drawn", wrong.join("\n"));
}

/// Everything that a view names and that has a position in some history.
fn histories(view: &ShardView) -> BTreeSet<ReplicationId> {
    let edges = view.lineage.edges().flat_map(|edge| [edge.child, edge.parent.history]);
    let positions = view.candidates.iter().filter_map(|candidate| candidate.position);
    let positions = positions.chain(view.heads.iter().map(|head| head.position)).map(|position| position.history);
    let decided = view.accepted.iter().flat_map(|d| d.over.iter().copied().chain([d.history]));
    edges.chain(positions).chain(decided).collect()
}

/// The rows of a text, without the title and without the notes below.
fn rows(text: &str) -> Vec<&str> {
    let blocks: Vec<_> = text.split("\n\n").collect();
    let is_picture = |block: &&str| !block.starts_with(|c: char| c.is_ascii_lowercase());
    let is_legend = |block: &str| block.contains(" backup   ") || block.lines().count() <= 2 && block.contains("   ┃");
    blocks.iter().skip(1).copied().filter(is_picture).filter(|block| !is_legend(block)).flat_map(str::lines).collect()
}

fn story() -> impl Strategy<Value = Vec<String>> {
    let head =
        (1..8_u8, 0..20_u32, 0..4_u8).prop_map(|(h, offset, n)| format!("head {h:x}:{} node-{n} 11:00", offset * 10));
    let sample =
        (1..8_u8, 0..15_u32, 0..9_u8).prop_map(|(h, offset, at)| format!("sample {h:x}:{} 10:0{at}", offset * 10));
    let others = (proptest::collection::vec(head, 0..3), proptest::collection::vec(sample, 0..6));
    (lines(), others).prop_map(|(lines, (heads, samples))| lines.into_iter().chain(heads).chain(samples).collect())
}

/// Tags are closed in order, attributes are quoted once each, and text holds no sign that must be escaped.
fn check_xml(document: &str) -> Result<(), String> {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = document;
    while let Some(at) = rest.find('<') {
        check_text(&rest[..at])?;
        let end = rest.find('>').ok_or("a tag without end")?;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("{name} is closed and was not open"));
            }
            continue;
        }
        let (name, attributes) = tag.trim_end_matches('/').split_once(' ').unwrap_or((tag.trim_end_matches('/'), ""));
        if attributes.matches('"').count() % 2 != 0 {
            return Err(format!("quotes in {tag}"));
        }
        let mut names = BTreeSet::new();
        for (i, part) in attributes.split('"').enumerate() {
            if i % 2 == 1 {
                check_text(part)?;
            } else if !part.trim().is_empty() && (!part.ends_with('=') || !names.insert(part.trim())) {
                return Err(format!("attributes of {tag}"));
            }
        }
        if !tag.ends_with('/') {
            open.push(name);
        }
    }
    if open.is_empty() { check_text(rest) } else { Err(format!("{open:?} are not closed")) }
}

fn check_text(text: &str) -> Result<(), String> {
    let is_entity = |rest: &str| ["amp;", "lt;", "gt;", "quot;", "apos;"].iter().any(|known| rest.starts_with(known));
    if text.split('&').skip(1).all(is_entity) && !text.chars().any(|c| c.is_control() && c != '\n') {
        Ok(())
    } else {
        Err(format!("text {text:?}"))
    }
}

/// One statement a line, strings closed, brackets closed, and every name of an edge declared.
fn check_dot(document: &str) -> Result<(), String> {
    let mut lines = document.lines();
    if lines.next() != Some("digraph lineage {") || lines.next_back() != Some("}") {
        return Err("no digraph".to_owned());
    }
    let (mut nodes, mut edges) = (BTreeSet::new(), Vec::new());
    for line in lines {
        let (statement, attributes) = line.trim().split_once(" [").ok_or(line)?;
        let attributes = attributes.strip_suffix("];").ok_or(line)?;
        let outside: Vec<_> =
            attributes.replace("\\\\", "").replace("\\\"", "").split('"').map(str::to_owned).collect();
        if outside.len() % 2 == 0 || outside.iter().step_by(2).any(|part| part.contains(['[', ']', ';', '<', '>'])) {
            return Err(format!("attributes in {line}"));
        }
        match statement.split_once(" -> ") {
            Some((from, to)) => edges.extend([from, to]),
            None if !nodes.insert(statement) => return Err(format!("{statement} twice")),
            None => {}
        }
    }
    match edges.into_iter().find(|name| !nodes.contains(name)) {
        Some(name) => Err(format!("{name} is not declared")),
        None => Ok(()),
    }
}

#[test]
fn what_a_person_wrote_moves_no_cursor_and_ends_no_document() {
    let mut fleet = fleet::parse(
        "edge b from a:600 promoted\nbackup 1 fra-1 fra a:700 taken 11:00\nbackup 2 nyc-1 nyc b:700 taken 11:00\n\
         accepted b at 11:05 by alice because \"why\"",
    );
    fleet.view.accepted[0].reason = "\u{1b}[2J</text><script>alert('x')</script> \"]; } & \\ \u{202e} \r\n".to_owned();
    fleet.view.accepted[0].by = "O=<x>\\".to_owned();
    let picture = draw(&fleet, Detail::Folded);
    check_xml(&picture.svg()).expect("well-formed");
    assert!(picture.svg().contains("&lt;script&gt;"));
    check_dot(&picture.dot()).expect("one digraph");
    for drawn in [picture.text(), picture.dot(), picture.svg()] {
        assert!(!drawn.contains(['\u{1b}', '\u{202e}', '\r']), "{drawn}");
    }
}

#[test]
fn names_as_long_as_they_may_be_fit_in() {
    let name = "n".repeat(63);
    let fleet = fleet::parse(&format!(
        "edge b from a:9223372036854775000 promoted\nbackup 1 {name} {name} b:9223372036854775807 taken 11:00\n\
         live {name} {name} a:9223372036854775001 seen 12:00"
    ));
    let picture = draw(&fleet, Detail::All);
    assert!(picture.text().lines().all(|line| line.chars().count() <= 100), "{}", picture.text());
    check_xml(&picture.svg()).expect("well-formed");
}

/// Forty histories, every fourth of them a branch that lost, all of them with backups: nothing is written over
/// anything else, nothing sticks out, and the usual picture is one page.
#[test]
fn forty_histories_are_readable() {
    let mut story = vec!["live fra-1 fra 38:40900 master 2 seen 12:29".to_owned()];
    let (mut master, mut over) = (0x10, Vec::new());
    for n in 1..=40_u32 {
        let (child, at) = (0x10 + n, 1000 * n);
        story.push(format!("edge {child:02x} from {master:02x}:{at} promoted"));
        story.push(format!("backup {n} nyc-1 nyc {child:02x}:{} taken {:02}:{:02}", at + 700, n / 6, n % 6 * 10));
        if n % 4 == 0 && n < 40 {
            over.push(format!("{child:02x}"));
        } else {
            master = child;
        }
    }
    story.push(format!(
        "accepted {master:02x} over {} at 12:00 by alice because \"it has the clients\"",
        over.join(",")
    ));
    let fleet = fleet::parse(&story.join("\n"));
    assert_eq!(histories(&fleet.view).len(), 41);
    for detail in [Detail::Folded, Detail::All] {
        let is_folded = detail == Detail::Folded;
        let picture = draw(&fleet, detail);
        let text = picture.text();
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!is_folded || text.lines().count() <= 60, "{} lines\n{text}", text.lines().count());
        let svg = picture.svg();
        check_xml(&svg).expect("well-formed");
        let number = |tag: &str, name: &str| -> f64 {
            let (_, rest) = tag.split_once(&format!(" {name}=\"")).unwrap_or_else(|| panic!("no {name} in {tag}"));
            rest.split('"').next().expect("a value").parse().expect("a number")
        };
        let (width, height) = (number(&svg, "width"), number(&svg, "height"));
        assert!(!is_folded || width <= 1500.0 && height <= 1100.0, "{width} by {height}");
        // Left, right, top and bottom of each text, in a font of fixed width.
        let boxes: Vec<_> = svg
            .lines()
            .filter(|line| line.starts_with("<text"))
            .map(|line| {
                let (x, y, size) = (number(line, "x"), number(line, "y"), number(line, "font-size"));
                let words = line.split_once('>').and_then(|(_, rest)| rest.split_once("</text>")).expect("a text").0;
                (x, x + 0.58 * size * words.chars().count() as f64, y - 0.7 * size, y, words)
            })
            .collect();
        assert!(boxes.len() > 20, "{svg}");
        for (i, a) in boxes.iter().enumerate() {
            assert!(a.0 >= 0.0 && a.1 <= width && a.2 >= 0.0 && a.3 <= height, "{a:?} in {width} by {height}");
            for b in &boxes[i + 1..] {
                assert!(a.1 <= b.0 || b.1 <= a.0 || a.3 <= b.2 || b.3 <= a.2, "{a:?} over {b:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_history_and_every_copy_is_in_every_picture_exactly_once(story in story()) {
        let fleet = fleet::parse(&story.join("\n"));
        let picture = draw(&fleet, Detail::All);
        let (text, dot, svg) = (picture.text(), picture.dot(), picture.svg());
        let rows = rows(&text);
        let once = |what: &str, n: usize, drawn: &str| {
            prop_assert_eq!(n, 1, "{} in\n{}", what, drawn);
            Ok(())
        };
        for history in histories(&fleet.view) {
            let begins = format!("{}  ", history.short());
            let is_beginning = |row: &&&str| row.contains(&begins) && !row.contains("went on beside it");
            once(&begins, rows.iter().filter(is_beginning).count(), &text)?;
            once(&begins, dot.matches(&format!("tooltip=\"{history}\"")).count(), &dot)?;
            once(&begins, svg.matches(&format!("data-history=\"{history}\"")).count(), &svg)?;
        }
        for candidate in &fleet.view.candidates {
            let (name, kind) = match candidate.source {
                Source::Backup(id) => (id.to_string(), "backup"),
                Source::Node => (candidate.node.to_string(), "node"),
            };
            let is_row = |row: &&&str| match candidate.source {
                Source::Backup(_) => row.contains(&name),
                Source::Node => row.contains(&format!(" {name} (")) && row.contains(['◆', '◇']),
            };
            once(&name, rows.iter().filter(is_row).count(), &text)?;
            let labels = [format!("label=\"{name}\\l"), format!("label=\"{name} (")];
            once(&name, labels.iter().map(|label| dot.matches(label.as_str()).count()).sum::<usize>()
                - dot.lines().filter(|line| line.contains("style=dotted, label=")).filter(|line| line.contains(&labels[0])).count(), &dot)?;
            once(&name, svg.matches(&format!("data-{kind}=\"{name}\"")).count(), &svg)?;
        }
        prop_assert_eq!(check_xml(&svg), Ok(()));
        prop_assert_eq!(check_dot(&dot), Ok(()));
        prop_assert!(text.lines().all(|line| line.chars().count() <= 100), "{}", text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// With many histories of their own, so that there is something to fold.
    #[test]
    fn what_is_folded_is_counted_and_what_matters_is_not_folded(
        story in story(), forks in proptest::collection::vec((0..12_u32, 0..6_u32, 0..3_u8), 12..40)
    ) {
        let mut story = story;
        for (i, (parent, offset, backups)) in forks.into_iter().enumerate() {
            let child = 0x10 + i as u32;
            // Mostly chains, with branches now and then.
            let parent = if parent > 1 && i > 0 { child - 1 } else { 0x10 + parent.min(i as u32) };
            let at = 1000 * (i as u32 + 1) - offset;
            if parent != child {
                story.push(format!("edge {child:02x} from {parent:02x}:{at} promoted"));
            }
            for n in 0..backups {
                story.push(format!("backup {} node-9 site-9 {child:02x}:{} taken 09:{n:02}", 20 + 3 * i as u8 + n, at + 500 + u32::from(n)));
            }
        }
        let fleet = fleet::parse(&story.join("\n"));
        let selection = select(&fleet.view, &fleet.policy, &fleet.wish);
        let picture = Picture::of(&fleet.view, &selection, Detail::Folded);
        let text = picture.text();
        prop_assert!(text.lines().all(|line| line.chars().count() <= 100), "{}", text);
        prop_assert_eq!(check_xml(&picture.svg()), Ok(()));
        prop_assert_eq!(check_dot(&picture.dot()), Ok(()));
        let rows = rows(&text).join("\n");
        let (mut drawn, mut all) = (0, 0);
        for judged in &selection.candidates {
            let candidate = &fleet.view.candidates[judged.candidate];
            let Source::Backup(id) = candidate.source else { continue };
            let is_drawn = rows.contains(&id.to_string());
            prop_assert!(is_drawn || !judged.contends && Some(judged.candidate) != selection.canonical, "{} in\n{}", id, text);
            drawn += usize::from(is_drawn);
            all += 1;
        }
        let words: Vec<_> = rows.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<usize>().unwrap_or(0);
        let counted: usize = (1..words.len())
            .filter(|&i| words[i].starts_with("backup") && (words[i - 1].parse::<usize>().is_ok()))
            .filter(|&i| i > 1 && (words[i - 2] == "with" || words[i - 2] == "…"))
            .map(|i| number(i - 1))
            .sum();
        prop_assert_eq!(drawn + counted, all, "{}", text);
    }
}
