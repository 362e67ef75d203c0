//! A picture as one SVG document: no scripts, no fonts, no references to anything outside of it. It
//! brings its own page, light or dark as the reader's.

use std::fmt::Write;

use super::{
    Begins, Drawn, History, Item, Mark, Picture, Shape, Tree, Way,
    place::{ELBOW, LARGE, LEVEL, Placed, SMALL, above, label, label_width, place, width_of},
    text::wrap,
};
use crate::wording::time;

/// Of more backups than this, ordinary ones have no label but a tooltip.
const BACKUPS_NAMED: usize = 8;

const MARGIN: f64 = 24.0;
const LEAST_WIDTH: f64 = 760.0;
/// Notes are not wider than this, however wide the picture is.
const WIDEST_NOTE: f64 = 1100.0;
const LINE: f64 = 17.0;

const STYLE: &str = "
  svg { font-family: ui-monospace, 'SFMono-Regular', Menlo, Consolas, 'DejaVu Sans Mono', monospace; }
  .page { fill: #ffffff; } text { fill: #1b1f24; } .muted { fill: #59636e; } .strong { font-weight: bold; }
  path { fill: none; stroke-linecap: round; stroke-linejoin: round; }
  .accepted { stroke: #1a7f5a; stroke-width: 5; } .contends { stroke: #b45f06; stroke-width: 3; }
  .beside { stroke: #8c959f; stroke-width: 2; }
  .aside { stroke: #8c959f; stroke-width: 2; stroke-dasharray: 7 5; }
  .gap { stroke: #1b1f24; stroke-width: 2; }
  .vague { stroke-dasharray: 1 6; } .leader { stroke: #8c959f; stroke-width: 1; }
  .begins { fill: #ffffff; stroke: #59636e; stroke-width: 2; }
  .canonical { fill: #1a7f5a; stroke: #ffffff; stroke-width: 2; } .halo { stroke: #1a7f5a; stroke-width: 2; fill: none; }
  .backup { fill: #3b434b; stroke: #ffffff; stroke-width: 1.5; }
  .doubtful { fill: #ffffff; stroke: #b3261e; stroke-width: 2; stroke-dasharray: 3 2; }
  .live { fill: #0b63ce; stroke: #ffffff; stroke-width: 1.5; } .silent { fill: #ffffff; stroke: #0b63ce; stroke-width: 2; }
  .remembered { fill: #ffffff; stroke: #59636e; stroke-width: 2; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #12161b; } text { fill: #e6edf3; } .muted { fill: #9aa4af; }
    .accepted, .halo { stroke: #3fb98a; } .contends { stroke: #e8a13a; } .beside, .aside, .leader { stroke: #6e7781; }
    .begins, .remembered { fill: #12161b; stroke: #9aa4af; } .canonical { fill: #3fb98a; stroke: #12161b; }
    .gap { stroke: #e6edf3; } .backup { fill: #c9d1d9; stroke: #12161b; } .doubtful { fill: #12161b; stroke: #ff7b72; }
    .live { fill: #5aa2ff; stroke: #12161b; } .silent { fill: #12161b; stroke: #5aa2ff; }
  }
";

pub(super) fn render(picture: &Picture) -> String {
    let backups =
        picture.items().filter(|item| matches!(&item.drawn, Drawn::Mark(mark) if mark.shape == Shape::Backup));
    let name_backups = backups.count() <= BACKUPS_NAMED;
    let mut svg = Svg { body: String::new(), width: LEAST_WIDTH };
    let mut y = MARGIN + 12.0;
    svg.text(MARGIN, y, 16.0, "strong", &picture.title);
    svg.text(MARGIN + width_of(&picture.title, 16.0) + 16.0, y, SMALL, "muted", &time(picture.now));
    y += 8.0;
    for tree in &picture.trees {
        let placed = place(tree, name_backups);
        svg.width = svg.width.max(placed.width + MARGIN);
        svg.tree(tree, &placed, y, name_backups);
        y += placed.height + 12.0;
    }
    if !picture.unplaced.is_empty() {
        y += LINE;
        svg.text(MARGIN, y, SMALL, "muted", "without a position");
        for mark in &picture.unplaced {
            y += LEVEL + 4.0;
            svg.mark(MARGIN + 8.0, y - 6.0, mark, None);
            svg.label(MARGIN + 20.0, y - 6.0, mark, None, true);
        }
        y += LINE;
    }
    y += 8.0;
    svg.notes(picture, &mut y);
    svg.legend(picture, &mut y);
    let (width, height) = (svg.width.ceil(), (y + MARGIN).ceil());
    let title = escape(&format!("Lineage of {}", picture.title));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
         {height}\" role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n<rect class=\"page\" width=\"{width}\" \
         height=\"{height}\"/>\n{}</svg>\n",
        svg.body
    )
}

struct Svg {
    body: String,
    width: f64,
}

impl Svg {
    fn line(&mut self, text: &str) {
        writeln!(self.body, "{text}").expect("writing to a string cannot fail");
    }

    fn text(&mut self, x: f64, y: f64, size: f64, class: &str, text: &str) {
        let text = escape(text);
        self.line(&format!("<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" class=\"{class}\">{text}</text>"));
    }

    fn path(&mut self, class: &str, way: &str) {
        self.line(&format!("<path class=\"{class}\" d=\"{way}\"/>"));
    }

    fn tree(&mut self, tree: &Tree, placed: &Placed, top: f64, name_backups: bool) {
        // Lines first, so that marks lie on them; the accepted ones last, so that they lie on the others.
        let mut lines: Vec<(bool, String, String)> = Vec::new();
        for (lane, items) in tree.lanes.iter().map(|lane| &lane.items).enumerate() {
            let (x, y) = (&placed.x[lane], top + placed.y[lane]);
            for (i, item) in items.iter().enumerate() {
                if let Some(before) = i.checked_sub(1) {
                    let class = class_of(item);
                    lines.push((item.way == Way::Accepted, class, format!("M{:.1} {y:.1}H{:.1}", x[before], x[i])));
                }
                if let Drawn::Branch(branch) = item.drawn {
                    let (below, begins) = (top + placed.y[branch], placed.x[branch][0]);
                    let first = &tree.lanes[branch].items[0];
                    let (at, bend) = (x[i], below - ELBOW);
                    let way = format!(
                        "M{at:.1} {y:.1}V{bend:.1}Q{at:.1} {below:.1} {:.1} {below:.1}H{begins:.1}",
                        at + ELBOW
                    );
                    lines.push((first.way == Way::Accepted, class_of(first), way));
                }
            }
            if let [only] = items.as_slice() {
                // A history of which there is no copy: it went somewhere.
                lines.push((false, class_of(only), format!("M{:.1} {y:.1}h30", x[0])));
            }
        }
        lines.sort_by_key(|&(is_accepted, ..)| is_accepted);
        for (_, class, way) in lines {
            self.path(&class, &way);
        }
        for (lane, items) in tree.lanes.iter().map(|lane| &lane.items).enumerate() {
            let y = top + placed.y[lane];
            for (i, item) in items.iter().enumerate() {
                let x = placed.x[lane][i];
                if let Some([name, rest]) = above(&item.drawn, item.offset) {
                    let up = y - LEVEL * placed.level[lane][i] as f64;
                    let aside = if up < y { 5.0 } else { -4.0 };
                    if up < y {
                        self.path("leader", &format!("M{x:.1} {y:.1}V{:.1}", up - 36.0));
                    }
                    self.text(x + aside, up - 28.0, LARGE, "strong", &name);
                    self.text(x + aside, up - 15.0, SMALL, "muted", &rest);
                }
                match &item.drawn {
                    Drawn::History(history) => self.history(x, y, history),
                    Drawn::Mark(mark) => {
                        if label(mark, Some(item.offset), name_backups).is_some() {
                            let down = y + LEVEL * placed.level[lane][i] as f64;
                            self.path("leader", &format!("M{x:.1} {y:.1}V{:.1}", down + 28.0));
                            self.label(x, down + 21.0, mark, Some(item), name_backups);
                        }
                        self.mark(x, y, mark, Some(item));
                    }
                    Drawn::Folded(_) => self.path(
                        "gap",
                        &format!("M{:.1} {:.1}l-5 14M{:.1} {:.1}l-5 14", x + 1.0, y - 7.0, x + 8.0, y - 7.0),
                    ),
                    Drawn::Branch(_) => {}
                }
            }
        }
    }

    fn history(&mut self, x: f64, y: f64, history: &History) {
        let when = if history.when.is_empty() { String::new() } else { format!(", {}", history.when) };
        let title = escape(&format!("{} {}{when}", history.id, history.words));
        let part = if history.begins == Begins::GoesOn { "rest" } else { "history" };
        self.line(&format!(
            "<g data-{part}=\"{}\"><title>{title}</title><circle class=\"begins\" cx=\"{x:.1}\" cy=\"{y:.1}\" \
             r=\"4\"/></g>",
            history.id
        ));
    }

    fn mark(&mut self, x: f64, y: f64, mark: &Mark, item: Option<&Item>) {
        let at = item.map_or_else(|| "no position".to_owned(), |item| format!("offset {}", item.offset));
        let said = [&mark.name, &mark.place, &at, &mark.remarks.join(", "), &mark.age].map(|text| escape(text));
        let title: Vec<_> = said.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        let kind = match mark.shape {
            Shape::Canonical | Shape::Backup | Shape::Doubtful => "backup",
            Shape::Remembered => "head",
            Shape::Live | Shape::Silent => "node",
        };
        let drawn = sign(mark.shape, x, y);
        let name = escape(&mark.name);
        self.line(&format!("<g data-{kind}=\"{name}\"><title>{}</title>{drawn}</g>", title.join(", ")));
    }

    /// `y` is the base of the first line.
    fn label(&mut self, x: f64, y: f64, mark: &Mark, item: Option<&Item>, name_backups: bool) {
        if let Some([first, second]) = label(mark, item.map(|item| item.offset), name_backups) {
            let class = if mark.shape == Shape::Backup { "" } else { "strong" };
            self.text(x + 5.0, y, SMALL, class, &first);
            self.text(x + 5.0, y + 12.0, SMALL, "muted", &second);
            self.width = self.width.max(x + label_width(&[first, second]) + MARGIN);
        }
    }

    fn notes(&mut self, picture: &Picture, y: &mut f64) {
        let label = picture.notes.iter().map(|note| note.label.len() + 2).max().unwrap_or(0);
        let indent = MARGIN + width_of(&" ".repeat(label), SMALL + 1.0);
        let room = (self.width.min(WIDEST_NOTE) - indent - MARGIN) / width_of(" ", SMALL + 1.0);
        for note in &picture.notes {
            self.text(MARGIN, *y + LINE, SMALL + 1.0, "muted", note.label);
            for text in wrap(&note.text, room.max(20.0) as usize) {
                *y += LINE;
                self.text(indent, *y, SMALL + 1.0, "", &text);
            }
        }
    }

    fn legend(&mut self, picture: &Picture, y: &mut f64) {
        *y += LINE * 2.0;
        let mut x = MARGIN + 10.0;
        for shape in picture.shapes() {
            self.line(&sign(shape, x, *y - 4.0));
            self.text(x + 16.0, *y, SMALL, "muted", shape.meaning());
            x += 16.0 + width_of(shape.meaning(), SMALL) + 24.0;
        }
        for way in picture.ways() {
            self.path(class_of_way(way), &format!("M{x:.1} {:.1}h28", *y - 4.0));
            self.text(x + 38.0, *y, SMALL, "muted", way.meaning());
            x += 38.0 + width_of(way.meaning(), SMALL) + 24.0;
        }
        self.width = self.width.max(x);
    }
}

fn sign(shape: Shape, x: f64, y: f64) -> String {
    let circle = |class: &str, r: f64| format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r}\"/>");
    let diamond = |class: &str| format!("<path class=\"{class}\" d=\"M{x:.1} {:.1}l8 8l-8 8l-8 -8z\"/>", y - 8.0);
    match shape {
        Shape::Canonical => circle("halo", 11.0) + &circle("canonical", 8.0),
        Shape::Backup => circle("backup", 6.0),
        Shape::Doubtful => circle("doubtful", 6.0),
        Shape::Live => diamond("live"),
        Shape::Silent => diamond("silent"),
        Shape::Remembered => circle("remembered", 5.0),
    }
}

fn class_of_way(way: Way) -> &'static str {
    match way {
        Way::Accepted => "accepted",
        Way::Contends => "contends",
        Way::Beside => "beside",
        Way::SetAside => "aside",
    }
}

/// Of the line that leads to an item.
fn class_of(item: &Item) -> String {
    let is_vague = matches!(&item.drawn, Drawn::History(h) if h.begins == Begins::Forked { is_exact: false });
    format!("{}{}", class_of_way(item.way), if is_vague { " vague" } else { "" })
}

/// Text as XML. What XML cannot hold was taken out where the text came in.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&apos;"),
            c => escaped.push(c),
        }
    }
    escaped
}
