//! A story as a person tells it.

use std::fmt::Write;

use crate::{
    run::{BEGINNING, Run, play_step},
    story::{Event, Fate, Lie, Method, Node, Shape, Story},
};

/// The story, sentence by sentence, each with what the server it is about shows afterwards.
pub fn tell(story: &Story) -> String {
    let shape = &story.shape;
    let mut text = String::new();
    let replicas = shape.all().filter_map(|node| {
        let master = shape.nodes[node.index()].master?;
        Some(format!("{} follows {}", shape.name(node), shape.name(master)))
    });
    let others: Vec<String> = replicas.collect();
    let (aof, policy) = (
        if shape.aof { ", append-only files on" } else { "" },
        if shape.follow_master { ", policy follow-master" } else { "" },
    );
    writeln!(
        text,
        "{:?}{aof}{policy}, backlog {} bytes: {} is the master, with {} keys{}{}.",
        shape.version,
        shape.backlog_bytes,
        shape.name(Node(0)),
        shape.keys,
        if others.is_empty() { "" } else { "; " },
        others.join(", ")
    )
    .expect("writing to a string cannot fail");
    let mut run = Run::new(shape.clone());
    for (i, step) in story.steps.iter().enumerate() {
        let result = play_step(&mut run, step);
        let seconds = (run.world.now - BEGINNING) as f64 / 1000.0;
        let after = step.event.nodes()[0].map_or(String::new(), |node| format!("  [{}]", state(&run, node)));
        writeln!(text, "{:>3}. {seconds:>8.3} s  {}.{after}", i + 1, sentence(shape, &step.event))
            .expect("writing to a string cannot fail");
        if let Err(wrong) = result {
            writeln!(text, "     {:?}: {}", wrong.invariant, wrong.what).expect("writing to a string cannot fail");
            break;
        }
    }
    text
}

/// What a server shows.
fn state(run: &Run, node: Node) -> String {
    let server = run.world.server(node);
    if !server.is_up {
        return "stopped".to_owned();
    }
    let id = |number| run.world.history(number).id.short();
    let second =
        server.second.map_or(String::new(), |second| format!(" from {}:{}", id(second.history), second.offset));
    let role = if server.is_master() { "master" } else { "replica" };
    let link = if server.is_master() || server.link_is_up() { "" } else { ", link down" };
    let backlog = if server.backlog.is_some() { "" } else { ", no backlog" };
    format!("{role} {}:{}{second}{link}{backlog}", id(server.history), server.offset)
}

/// One event.
pub fn sentence(shape: &Shape, event: &Event) -> String {
    let name = |node: Node| shape.name(node);
    match *event {
        Event::Write { node, value_bytes, count } => {
            format!("{} takes {count} writes with {value_bytes} bytes each", name(node))
        }
        Event::Flush { node } => format!("{} is flushed", name(node)),
        Event::Ping { node } => format!("{} pings its replicas", name(node)),
        Event::Cut { node } => format!("the link of {} breaks", name(node)),
        Event::Mend { node } => format!("the link of {} is mended", name(node)),
        Event::Stall { node } => format!("nothing arrives at {} any more", name(node)),
        Event::Trickle { node, commands } => format!("{commands} commands arrive at {}", name(node)),
        Event::Flow { node } => format!("everything arrives at {} again", name(node)),
        Event::Isolate { site } => format!("site {} is cut off", site.name()),
        Event::Rejoin { site } => format!("site {} is back", site.name()),
        Event::Promote { node } => format!("{} is promoted", name(node)),
        Event::Follow { node, master: Some(master) } => format!("{} is made a replica of {}", name(node), name(master)),
        Event::Follow { node, master: None } => format!("{} is made a replica of nobody who answers", name(node)),
        Event::Failover { to } => format!("the master of {} hands over to it", name(to)),
        Event::AbortFailover { node } => format!("{} begins a failover and takes it back", name(node)),
        Event::ExpireBacklog { node } => format!("the backlog of {} expires", name(node)),
        Event::Save { node } => format!("{} saves its file", name(node)),
        Event::Stop { node, save: true } => format!("{} saves and stops", name(node)),
        Event::Stop { node, save: false } => format!("{} stops without saving", name(node)),
        Event::Start { node, master: Some(master) } => {
            format!("{} starts as a replica of {}", name(node), name(master))
        }
        Event::Start { node, master: None } => format!("{} starts as a master", name(node)),
        Event::Wipe { node } => format!("the files of {} are gone", name(node)),
        Event::CopyFile { from, to } => format!("{} is given the file of {}", name(to), name(from)),
        Event::Look { node, after_ms: 0 } => format!("{} is observed", name(node)),
        Event::Look { node, after_ms } => format!("{} is observed, which is heard {after_ms} ms later", name(node)),
        Event::Silence { node } => format!("the agent of {} falls silent", name(node)),
        Event::Hear { node } => format!("the agent of {} is heard again", name(node)),
        Event::Backup { number, node, method, allow_stale, fate } => {
            let how = match method {
                Method::Auto => "",
                Method::Replication => " by replication",
                Method::File => " by its file",
            };
            let stale = if allow_stale { ", stale or not" } else { "" };
            let fate = match fate {
                Fate::Committed { after_ms: 0 } => String::new(),
                Fate::Committed { after_ms } => format!(", committed {after_ms} ms later"),
                Fate::Found { after_ms } => format!(", found {after_ms} ms later"),
                Fate::Lost => ", and it is lost".to_owned(),
            };
            format!("backup {} is taken of {}{how}{stale}{fate}", number.0, name(node))
        }
        Event::Damage { number } => format!("backup {} is found damaged", number.0),
        Event::Verify { number, rehearsed: true } => format!("backup {} is rehearsed", number.0),
        Event::Verify { number, rehearsed: false } => format!("backup {} is verified", number.0),
        Event::Vouch { number } => format!("an operator vouches for backup {}", number.0),
        Event::Claim { lie, lie_first, .. } => {
            let what = match lie {
                Lie::Later(bytes) => format!("{} bytes further than it was", u32::from(bytes) + 1),
                Lie::Earlier(bytes) => format!("{} bytes before where it was", u32::from(bytes) + 1),
                Lie::Parent => "in another history".to_owned(),
            };
            let order = if lie_first { "then somebody where it was" } else { "after somebody said where it was" };
            format!("of a fork that nobody knows, somebody says that it is {what}, {order}")
        }
        Event::Accept { .. } => "an operator accepts one of the branches".to_owned(),
        Event::Ask { .. } => "which copy is the one to restore?".to_owned(),
        Event::Wait => "time passes".to_owned(),
    }
}
