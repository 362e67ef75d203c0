//! Stories as lines of text, to be kept, sent, and played by others.
//!
//! ```text
//! version redis70
//! backlog 1048576 ttl 3600000 keys 20
//! node fra master skew 0 error 0
//! node nyc of 0 skew 12 error -3
//! +1000 write 0 value 10 count 1
//! +20 promote 1
//! ```
//!
//! A number before an event is the time since the one before it, in milliseconds. Nodes are numbered in
//! the order of their lines, backups by themselves.

use std::{fmt, str::FromStr};

use crate::story::{BackupNumber, Event, Fate, KINDS, Lie, Method, Node, Place, Shape, Site, Step, Story, Version};

const VERSIONS: [&str; 5] = ["redis62", "redis70", "redis82", "valkey81", "valkey91"];

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shape = &self.shape;
        let version = Version::ALL.iter().position(|version| *version == shape.version).expect("one of all");
        writeln!(f, "version {}", VERSIONS[version])?;
        let (bytes, ttl, keys) = (shape.backlog_bytes, shape.backlog_ttl_ms, shape.keys);
        let aof = if shape.aof { " aof" } else { "" };
        let policy = if shape.follow_master { " follow-master" } else { "" };
        writeln!(f, "backlog {bytes} ttl {ttl} keys {keys}{aof}{policy}")?;
        for Place { site, master, skew_ms, skew_error_ms } in &shape.nodes {
            let role = master.map_or("master".to_owned(), |of| format!("of {}", of.0));
            writeln!(f, "node {} {role} skew {skew_ms} error {skew_error_ms}", site.name())?;
        }
        self.steps.iter().try_for_each(|step| writeln!(f, "{step}"))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{} {}", self.after_ms, KINDS[self.event.kind()])?;
        let flag = |is: bool, word: &'static str| if is { word } else { "" };
        match self.event {
            Event::Write { node, value_bytes, count } => write!(f, " {} value {value_bytes} count {count}", node.0),
            Event::Flush { node }
            | Event::Ping { node }
            | Event::Cut { node }
            | Event::Mend { node }
            | Event::Stall { node }
            | Event::Flow { node }
            | Event::Promote { node }
            | Event::Failover { to: node }
            | Event::AbortFailover { node }
            | Event::ExpireBacklog { node }
            | Event::Save { node }
            | Event::Wipe { node }
            | Event::Silence { node }
            | Event::Hear { node } => write!(f, " {}", node.0),
            Event::Trickle { node, commands } => write!(f, " {} commands {commands}", node.0),
            Event::Isolate { site } | Event::Rejoin { site } => write!(f, " {}", site.name()),
            Event::Follow { node, master } | Event::Start { node, master } => match master {
                Some(master) => write!(f, " {} of {}", node.0, master.0),
                None => write!(f, " {}", node.0),
            },
            Event::Stop { node, save } => write!(f, " {}{}", node.0, flag(save, " save")),
            Event::CopyFile { from, to } => write!(f, " {} to {}", from.0, to.0),
            Event::Look { node, after_ms } => write!(f, " {} heard {after_ms}", node.0),
            Event::Backup { number, node, method, allow_stale, fate } => {
                let method = match method {
                    Method::Auto => "",
                    Method::Replication => " by-replication",
                    Method::File => " by-file",
                };
                write!(f, " {} number {}{method}{}", node.0, number.0, flag(allow_stale, " stale"))?;
                match fate {
                    Fate::Committed { after_ms } => write!(f, " committed {after_ms}"),
                    Fate::Found { after_ms } => write!(f, " found {after_ms}"),
                    Fate::Lost => write!(f, " lost"),
                }
            }
            Event::Damage { number } | Event::Vouch { number } => write!(f, " {}", number.0),
            Event::Verify { number, rehearsed } => write!(f, " {}{}", number.0, flag(rehearsed, " rehearsed")),
            Event::Claim { pick, lie, lie_first } => {
                match lie {
                    Lie::Later(bytes) => write!(f, " {pick} later {bytes}")?,
                    Lie::Earlier(bytes) => write!(f, " {pick} earlier {bytes}")?,
                    Lie::Parent => write!(f, " {pick}")?,
                }
                f.write_str(flag(lie_first, " first"))
            }
            Event::Accept { pick } => write!(f, " {pick}"),
            Event::Ask { shuffle } => write!(f, " {shuffle}"),
            Event::Wait => Ok(()),
        }
    }
}

/// The words of one line.
struct Words<'a>(Vec<&'a str>);

impl Words<'_> {
    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn at<T: FromStr>(&self, i: usize) -> Result<T, String> {
        let word = self.0.get(i).ok_or_else(|| format!("word {} is missing", i + 1))?;
        word.parse().map_err(|_| format!("{word:?} is not a number that fits"))
    }

    fn after<T: FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let found = self.0.iter().position(|word| *word == name);
        found.map(|at| self.at(at + 1)).transpose()
    }

    fn need<T: FromStr>(&self, name: &str) -> Result<T, String> {
        self.after(name)?.ok_or_else(|| format!("{name} is missing"))
    }

    fn site(&self, i: usize) -> Result<Site, String> {
        let name: String = self.at(i)?;
        let site = Site::NAMES.iter().position(|known| *known == name);
        site.map(|number| Site(number as u8)).ok_or_else(|| format!("{name:?} is not a site"))
    }
}

impl FromStr for Story {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut story = Self {
            shape: Shape {
                version: Version::Redis70,
                aof: false,
                backlog_bytes: 1 << 20,
                backlog_ttl_ms: 3_600_000,
                keys: 0,
                follow_master: false,
                nodes: Vec::new(),
            },
            steps: Vec::new(),
        };
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let words = Words(line.split_whitespace().collect());
            story.line(&words).map_err(|what| format!("line {}: {what}", number + 1))?;
        }
        let nodes = story.shape.nodes.len();
        let is_known = |node: Node| node.index() < nodes;
        let named = story.steps.iter().flat_map(|step| step.event.nodes()).flatten();
        let masters = story.shape.nodes.iter().filter_map(|place| place.master);
        if !named.chain(masters).all(is_known) || nodes == 0 {
            return Err(format!("there are {nodes} nodes, and others are named"));
        }
        Ok(story)
    }
}

impl Story {
    fn line(&mut self, words: &Words<'_>) -> Result<(), String> {
        match words.0[0] {
            "version" => {
                let name: String = words.at(1)?;
                let known = VERSIONS.iter().position(|known| *known == name);
                self.shape.version = Version::ALL[known.ok_or_else(|| format!("{name:?} is not a version"))?];
            }
            "backlog" => {
                self.shape.backlog_bytes = words.at(1)?;
                self.shape.backlog_ttl_ms = words.need("ttl")?;
                self.shape.keys = words.need("keys")?;
                self.shape.aof = words.has("aof");
                self.shape.follow_master = words.has("follow-master");
            }
            "node" => self.shape.nodes.push(Place {
                site: words.site(1)?,
                master: words.after("of")?.map(Node),
                skew_ms: words.need("skew")?,
                skew_error_ms: words.need("error")?,
            }),
            first => {
                let after_ms = first.strip_prefix('+').and_then(|number| number.parse().ok());
                let after_ms = after_ms.ok_or_else(|| format!("{first:?} begins no line"))?;
                self.steps.push(Step { after_ms, event: event(words)? });
            }
        }
        Ok(())
    }
}

fn event(words: &Words<'_>) -> Result<Event, String> {
    let kind: String = words.at(1)?;
    let node = || words.at(2).map(Node);
    let number = || words.at(2).map(BackupNumber);
    Ok(match kind.as_str() {
        "write" => Event::Write { node: node()?, value_bytes: words.need("value")?, count: words.need("count")? },
        "flush" => Event::Flush { node: node()? },
        "ping" => Event::Ping { node: node()? },
        "cut" => Event::Cut { node: node()? },
        "mend" => Event::Mend { node: node()? },
        "stall" => Event::Stall { node: node()? },
        "trickle" => Event::Trickle { node: node()?, commands: words.need("commands")? },
        "flow" => Event::Flow { node: node()? },
        "isolate" => Event::Isolate { site: words.site(2)? },
        "rejoin" => Event::Rejoin { site: words.site(2)? },
        "promote" => Event::Promote { node: node()? },
        "follow" => Event::Follow { node: node()?, master: words.after("of")?.map(Node) },
        "failover" => Event::Failover { to: node()? },
        "abort-failover" => Event::AbortFailover { node: node()? },
        "expire-backlog" => Event::ExpireBacklog { node: node()? },
        "save" => Event::Save { node: node()? },
        "stop" => Event::Stop { node: node()?, save: words.has("save") },
        "start" => Event::Start { node: node()?, master: words.after("of")?.map(Node) },
        "wipe" => Event::Wipe { node: node()? },
        "copy-file" => Event::CopyFile { from: node()?, to: Node(words.need("to")?) },
        "look" => Event::Look { node: node()?, after_ms: words.need("heard")? },
        "silence" => Event::Silence { node: node()? },
        "hear" => Event::Hear { node: node()? },
        "backup" => Event::Backup {
            node: node()?,
            number: BackupNumber(words.need("number")?),
            method: match (words.has("by-replication"), words.has("by-file")) {
                (true, _) => Method::Replication,
                (_, true) => Method::File,
                _ => Method::Auto,
            },
            allow_stale: words.has("stale"),
            fate: match (words.after("committed")?, words.after("found")?) {
                (Some(after_ms), _) => Fate::Committed { after_ms },
                (_, Some(after_ms)) => Fate::Found { after_ms },
                _ => Fate::Lost,
            },
        },
        "damage" => Event::Damage { number: number()? },
        "verify" => Event::Verify { number: number()?, rehearsed: words.has("rehearsed") },
        "vouch" => Event::Vouch { number: number()? },
        "claim" => Event::Claim {
            pick: words.at(2)?,
            lie: match (words.after("later")?, words.after("earlier")?) {
                (Some(bytes), _) => Lie::Later(bytes),
                (_, Some(bytes)) => Lie::Earlier(bytes),
                _ => Lie::Parent,
            },
            lie_first: words.has("first"),
        },
        "accept" => Event::Accept { pick: words.at(2)? },
        "ask" => Event::Ask { shuffle: words.at(2)? },
        "wait" => Event::Wait,
        other => return Err(format!("{other:?} is not an event")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::story;

    #[test]
    fn a_story_reads_back_as_written() {
        for seed in 0..200 {
            let story = story(seed);
            assert_eq!(story.to_string().parse(), Ok(story));
        }
    }

    #[test]
    fn what_is_no_story_is_refused() {
        let node = "node fra master skew 0 error 0\n";
        for wrong in ["", "node atlantis master skew 0 error 0", "+1 promote 1", "promote 0", "+1 fly 0", "+1 write 0"]
        {
            assert!(format!("{node}{wrong}").parse::<Story>().is_err() || wrong.is_empty(), "{wrong}");
        }
        assert!("".parse::<Story>().is_err());
    }
}
