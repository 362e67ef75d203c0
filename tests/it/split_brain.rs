//! Two masters went on, each with writes that the other lacks. No rule can rank them: a person must.

use quick_xml::{Reader, events::Event};
use urtext_tests::{
    data::{Contents, load, load_strings},
    fleet::{Fleet, ORDERS, candidate},
    servers::{Server, Version},
};

#[test]
fn a_split_brain_is_shown_and_nothing_is_guessed_until_a_person_decides() {
    let version = Version::Valkey81;
    let mut fleet = Fleet::of_three_sites(version);
    load(fleet.server("fra-1"), 41, 150);
    for node in ["nyc-1", "sgp-1"] {
        fleet.server(node).catch_up_with(fleet.server("fra-1"));
    }
    // The network parts: nyc is promoted by its side, sgp stays with fra, both go on.
    let common = fleet.server("fra-1").history();
    fleet.server("nyc-1").promote();
    let fork = fleet.server("nyc-1").offset();
    load_strings(fleet.server("fra-1"), "only-in-fra", 42, 40, 100);
    load_strings(fleet.server("nyc-1"), "only-in-nyc", 43, 60, 100);
    fleet.server("sgp-1").catch_up_with(fleet.server("fra-1"));
    for node in ["fra-1", "nyc-1", "sgp-1"] {
        fleet.wait_until_seen(node);
    }
    let in_fra = fleet.snapshot("sgp-1");
    let in_nyc = fleet.snapshot("nyc-1");
    let promoted = fleet.server("nyc-1").history();

    let canonical = fleet.coordinator.json_with_code(&["canonical", ORDERS], 4);
    assert_eq!(canonical["verdict"], "ambiguous");
    assert!(canonical["canonical"].is_null());
    let forks = canonical["forks"].as_array().expect("a list of forks");
    let [shown] = &forks[..] else { panic!("one fork, not {forks:#?}") };
    assert_eq!((shown["parent"].as_str(), shown["offset"].as_u64()), (Some(common.as_str()), Some(fork)));
    assert!(shown["children"].as_array().expect("a list").iter().any(|child| *child == promoted), "{shown:#}");
    assert!(shown["accepted"].is_null());
    for id in [&in_fra, &in_nyc] {
        assert!(!candidate(&canonical, id)["reason"].as_str().expect("a reason").is_empty());
    }

    // A restore that nobody has decided is refused, with the way out.
    fleet.add("fra-2", Server::start(version));
    fleet.coordinator.urtext(&["restore", ORDERS, "--to", "fra-2", "--yes"]).expect(4).says(&["accept-lineage"]);
    assert!(Contents::of(fleet.server("fra-2")).is_empty());

    let accept = ["accept-lineage", ORDERS, &promoted[..8], "--reason", "the shops wrote to nyc"];
    fleet.coordinator.urtext(&accept).expect(0);
    let canonical = fleet.canonical();
    assert_eq!(canonical["canonical"]["id"], in_nyc);
    assert_eq!(canonical["forks"][0]["accepted"], promoted);
    let loser = candidate(&canonical, &in_fra);
    assert_eq!(loser["standing"], "divergent");
    assert!(loser["excess_bytes"].as_u64() > Some(4_000), "{loser:#}");

    check_pictures(&fleet, &common, &promoted, &in_nyc);

    // The decision outlives the coordinator.
    fleet.coordinator.kill9();
    fleet.coordinator.serve();
    assert_eq!(fleet.canonical()["canonical"]["id"], in_nyc);
    let expected = Contents::of(fleet.server("nyc-1"));
    fleet.wait_for_node("fra-2", "its agent connected", |seen| seen["connected"] == true);
    fleet.restore_to("fra-2", &[]);
    expected.assert_same(&Contents::of(fleet.server("fra-2")));
}

/// The tree of histories in each of its forms, with the decision in it.
#[track_caller]
fn check_pictures(fleet: &Fleet, parent: &str, accepted: &str, canonical: &str) {
    let picture = |form: &[&str]| fleet.coordinator.urtext(&[&["lineage", ORDERS], form].concat()).expect(0).stdout;
    let text = picture(&[]);
    let row = |starts: &str, holds: &str| text.lines().any(|line| line.starts_with(starts) && line.contains(holds));
    assert!(row("★", canonical) && row("◆", "nyc-1 (nyc)"), "{text}");
    assert!(row("┣", &format!("{}  promoted from {}", &accepted[..8], &parent[..8])), "{text}");
    assert!(row("┠─╮", &format!("{}  went on beside it", &parent[..8])), "{text}");
    let in_one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(row("accepted", &accepted[..8]) && in_one_line.contains("“the shops wrote to nyc”"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");

    let svg = picture(&["--svg"]);
    let mut names = Vec::new();
    let mut reader = Reader::from_str(&svg);
    loop {
        match reader.read_event().unwrap_or_else(|error| panic!("no XML ({error}):\n{svg}")) {
            Event::Start(tag) | Event::Empty(tag) => {
                for attribute in tag.attributes() {
                    let attribute = attribute.unwrap_or_else(|error| panic!("no XML ({error}):\n{svg}"));
                    if attribute.key.as_ref() == b"data-history" {
                        names.push(String::from_utf8_lossy(&attribute.value).into_owned());
                    }
                }
            }
            Event::Eof => break,
            _ => {}
        }
    }
    assert_eq!(names, [parent, accepted]);

    let dot = picture(&["--dot"]);
    assert!(dot.starts_with("digraph lineage {\n") && dot.trim_end().ends_with('}'), "{dot}");
    for history in [parent, accepted] {
        assert_eq!(dot.matches(&format!("tooltip=\"{history}\"")).count(), 1, "{dot}");
    }
}
