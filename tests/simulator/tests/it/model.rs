//! The model, held against what was measured on real servers.

use urtext_simulator::{
    World,
    server::{Link, Role, Server},
    story::{Event, Node, Place, Shape, Site, Version},
    world::{Birth, set_bytes},
};

const A: Node = Node(0);
const B: Node = Node(1);
const C: Node = Node(2);
const D: Node = Node(3);

/// A is the master, B and D are its replicas, C is one of B.
fn tree(version: Version) -> World {
    let place = |master| Place { site: Site(0), master, skew_ms: 0, skew_error_ms: 0 };
    let nodes = vec![place(None), place(Some(A)), place(Some(B)), place(Some(A))];
    let shape = Shape {
        version,
        aof: false,
        backlog_bytes: 1 << 20,
        backlog_ttl_ms: 60_000,
        keys: 10,
        follow_master: false,
        nodes,
    };
    World::new(shape, 0)
}

fn play(world: &mut World, events: &[Event]) {
    for event in events {
        world.now += 1000;
        assert!(world.play(event), "{event:?} did nothing");
    }
}

fn write(node: Node) -> Event {
    Event::Write { node, value_bytes: 10, count: 1 }
}

fn of(world: &World, node: Node) -> &Server {
    world.server(node)
}

#[test]
fn sizes_are_those_of_the_stream() {
    assert_eq!(set_bytes(1, 3), "*3\r\n$3\r\nSET\r\n$2\r\nw1\r\n$3\r\nabc\r\n".len() as u64);
    assert_eq!(set_bytes(10, 10), "*3\r\n$3\r\nSET\r\n$3\r\nw10\r\n$10\r\n0123456789\r\n".len() as u64);
    assert_eq!(set_bytes(1, 0), "*3\r\n$3\r\nSET\r\n$2\r\nw1\r\n$0\r\n\r\n".len() as u64);
}

#[test]
fn the_first_replica_gives_a_master_a_new_id_without_a_past() {
    let world = tree(Version::Redis70);
    let master = of(&world, A);
    assert_eq!(world.history(master.history).birth, Birth::Renamed);
    assert_eq!((master.offset, master.second, master.backlog), (0, None, Some(1)));
    for replica in [B, C, D] {
        assert_eq!((of(&world, replica).history, of(&world, replica).offset), (master.history, 0));
    }
}

/// The example that was reproduced on Redis 7.0, 8.2 and Valkey 9.1.
#[test]
fn a_promotion_while_the_master_goes_on() {
    let mut world = tree(Version::Redis70);
    play(&mut world, &[write(A), Event::Ping { node: A }]);
    let (old, fork) = (of(&world, A).history, of(&world, A).offset);
    play(&mut world, &[Event::Promote { node: B }, write(A), write(B), write(B)]);
    assert_eq!((of(&world, A).history, of(&world, D).history), (old, old), "still under the old id");
    assert_eq!(of(&world, A).second, None);
    assert_ne!(of(&world, B).history, old);
    for node in [B, C] {
        let second = of(&world, node).second.expect("a fork");
        assert_eq!((second.history, second.offset), (old, fork));
    }
    assert_eq!(of(&world, C).history, of(&world, B).history, "it followed by a partial resynchronization");
    // The master is one byte too far, is resynchronized in full, and loses what it wrote.
    let lost = of(&world, A).data;
    play(&mut world, &[Event::Follow { node: A, master: Some(B) }]);
    assert_eq!(of(&world, A).second, None);
    assert_eq!(of(&world, A).spot(), of(&world, B).spot());
    assert!(!world.truth.holds(of(&world, A).data, lost));
}

#[test]
fn a_clean_switchover_loses_nothing_and_copies_nothing() {
    let mut world = tree(Version::Redis82);
    play(&mut world, &[write(A), Event::Failover { to: B }]);
    let (a, b) = (of(&world, A), of(&world, B));
    assert_eq!((a.role, b.role), (Role::Replica { of: Some(B), link: Link::Up }, Role::Master));
    assert_eq!(a.second, b.second);
    assert_eq!(a.spot(), b.spot());
    // D had followed A, and follows the new id through it.
    assert_eq!(of(&world, D).history, b.history);
    assert!(of(&world, D).second.is_some(), "a partial resynchronization");
}

#[test]
fn a_replica_that_lags_shows_a_lower_bound_of_the_fork() {
    let mut world = tree(Version::Redis70);
    play(
        &mut world,
        &[write(A), Event::Stall { node: C }, write(A), write(A), Event::Trickle { node: C, commands: 1 }],
    );
    let (lagging, fork) = (of(&world, C).offset, of(&world, B).offset);
    assert!(lagging < fork);
    play(&mut world, &[Event::Promote { node: B }]);
    assert_eq!(of(&world, B).second.expect("a fork").offset, fork);
    assert_eq!(of(&world, C).second.expect("a lower bound").offset, lagging);
    play(&mut world, &[Event::Flow { node: C }]);
    assert_eq!(of(&world, C).spot(), of(&world, B).spot());
}

#[test]
fn a_backlog_that_expires_takes_the_id_with_it_and_what_is_written_then_is_not_counted() {
    let mut world = tree(Version::Redis70);
    play(&mut world, &[write(A), Event::Cut { node: B }, Event::Cut { node: D }]);
    let before = of(&world, A).clone();
    play(&mut world, &[Event::ExpireBacklog { node: A }, write(A)]);
    let after = of(&world, A);
    assert_ne!(after.history, before.history);
    assert_eq!((after.offset, after.second, after.backlog, after.aux()), (before.offset, None, None, None));
    assert!(!world.truth.holds(before.data, after.data));
    // The first replica gives it another id again, and is copied in full.
    let lone = after.history;
    play(&mut world, &[Event::Mend { node: D }]);
    assert_ne!(of(&world, A).history, lone);
    assert_eq!(of(&world, D).spot(), of(&world, A).spot());
}

#[test]
fn a_restart_keeps_what_the_version_keeps() {
    for version in Version::ALL {
        let mut world = tree(version);
        play(&mut world, &[write(A), Event::Save { node: A }, write(A)]);
        let saved = of(&world, A).rdb.expect("saved").aux.expect("a position");
        play(&mut world, &[Event::Stop { node: A, save: false }, Event::Start { node: A, master: None }]);
        let second = version.masters_keep_their_lineage().then_some(saved);
        assert_eq!(of(&world, A).second, second, "{version:?}");
        assert_eq!(of(&world, A).offset, second.map_or(0, |second| second.offset), "{version:?}");
        // The replicas were ahead, and are dragged down to the older data.
        assert_eq!(of(&world, D).spot(), of(&world, A).spot());
        assert_eq!(of(&world, D).second, None);
    }
}

#[test]
fn a_replica_continues_from_its_file() {
    let mut world = tree(Version::Redis62);
    play(&mut world, &[write(A), Event::Stop { node: D, save: true }, write(A)]);
    play(&mut world, &[Event::Start { node: D, master: Some(A) }]);
    assert_eq!(of(&world, D).spot(), of(&world, A).spot());
    assert_eq!(of(&world, D).backlog, Some(of(&world, D).rdb.expect("saved").aux.expect("a position").offset + 1));
}

#[test]
fn an_append_only_file_cuts_the_lineage() {
    for version in [Version::Redis70, Version::Redis82] {
        let mut world = tree(version);
        world.shape.aof = true;
        world.servers.iter_mut().for_each(|server| server.has_aof = true);
        play(&mut world, &[write(A), Event::Stop { node: A, save: true }]);
        let before = of(&world, A).clone();
        play(&mut world, &[Event::Cut { node: B }, Event::Cut { node: D }, Event::Start { node: A, master: None }]);
        let after = of(&world, A);
        assert_eq!((after.second, after.data, after.backlog), (None, before.data, None));
        assert_eq!(after.offset, if version == Version::Redis82 { before.offset } else { 0 });
        assert_ne!(after.history, before.history);
    }
}

#[test]
fn a_server_that_lost_its_file_gives_its_replicas_nothing() {
    let mut world = tree(Version::Redis82);
    play(&mut world, &[write(A), Event::Stop { node: A, save: false }, Event::Start { node: A, master: None }]);
    for node in [A, B, C, D] {
        assert_eq!(world.truth.keys(of(&world, node).data), 0);
    }
}

#[test]
fn what_does_not_fit_into_the_backlog_is_copied_in_full() {
    let mut world = tree(Version::Redis70);
    world.shape.backlog_bytes = 100;
    play(&mut world, &[write(A), Event::Cut { node: D }, write(A), Event::Mend { node: D }]);
    assert_eq!(of(&world, D).backlog, Some(1), "it continued");
    let first = of(&world, A).offset - 99;
    play(&mut world, &[Event::Cut { node: D }, write(A), write(A), write(A), Event::Mend { node: D }]);
    assert!(first < of(&world, A).backlog.expect("a backlog"));
    assert_eq!(of(&world, D).backlog, Some(of(&world, A).offset + 1), "it was copied");
}

#[test]
fn a_replica_serves_nobody_while_its_own_link_is_down() {
    let mut world = tree(Version::Redis70);
    play(&mut world, &[Event::Cut { node: B }, write(A), Event::Cut { node: C }, Event::Mend { node: C }]);
    assert!(!of(&world, C).link_is_up(), "B answers -NOMASTERLINK");
    play(&mut world, &[Event::Mend { node: B }]);
    assert_eq!(of(&world, C).spot(), of(&world, A).spot());
}
