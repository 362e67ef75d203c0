//! Who watches the watchman? Each of these mistakes is planted into a copy of the planner, one at a time, and
//! the simulator must find it. One that it does not find is a hole in the oracle; one that does not apply any
//! more has to be written anew.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What is built: the packages, and where they are.
const PACKAGES: [&str; 3] = ["proto/types", "coordinator/planner", "tests/simulator"];

/// How many deployments a mistake may survive.
const DEPLOYMENTS: u32 = 6000;

struct Mutation {
    what: &'static str,
    /// Is there exactly once, in whichever file.
    from: &'static str,
    to: &'static str,
}

const MUTATIONS: &[Mutation] = &[
    Mutation {
        what: "bare offsets are compared, whatever their histories",
        from: "history: numbers[place.history]",
        to: "history: numbers[0]",
    },
    Mutation {
        what: "the fork is ignored: a child holds all of its parent",
        from: "let up = edge.map(|(history, offset, _)| self.normalize(Place { history, offset }));",
        to: "let up = edge.map(|(history, _, _)| self.normalize(Place { history, offset: Offset::MAX }));",
    },
    Mutation {
        what: "second_repl_offset is taken for the last common byte",
        from: "let parent = self.replication.parent?;",
        to: "let parent = self.replication.parent?;
        let parent = Position::new(parent.history, parent.offset.checked_add(1)?);",
    },
    Mutation {
        what: "the newest file wins",
        from: "place > furthest || place == furthest",
        to: "rank.view.candidates[i].taken_at > rank.view.candidates[other].taken_at || place == furthest",
    },
    Mutation {
        what: "the copy that was received last wins",
        from: "place > furthest || place == furthest",
        to: "rank.view.candidates[i].received_at > rank.view.candidates[other].received_at || place == furthest",
    },
    Mutation {
        what: "a master's copy is preferred to one that is further",
        from: "place > furthest || place == furthest",
        to: "rank.view.nodes.iter().any(|seen| {
                        seen.node == rank.view.candidates[i].node && seen.observation.replication.role.is_master()
                    }) || place > furthest || place == furthest",
    },
    Mutation {
        what: "lower bounds are taken for the fork itself",
        from: "Role::Replica { .. } => Evidence::FollowingReplica,",
        to: "Role::Replica { .. } => Evidence::PromotedMaster,",
    },
    Mutation {
        what: "what was not counted does not exist: bridges make equal",
        from: "            Self::PromotedMaster | Self::Restore | Self::FollowingReplica => true,
            Self::InferredSameRun => false,",
        to: "            _ => true,",
    },
    Mutation {
        what: "a promotion without a backlog is taken for any other",
        from: "_ if !self.replication.backlog_active => Evidence::InferredSameRun,",
        to: "",
    },
    Mutation {
        what: "the offset of a master that counts nothing is taken for a position",
        from: "Role::Master { .. } => self.backlog_active,",
        to: "Role::Master { .. } => true,",
    },
    Mutation {
        what: "a new id is bridged however long nobody looked",
        from: "(is_same_run && is_soon && ",
        to: "(is_same_run && ",
    },
    Mutation { what: "a new id is bridged over a restart", from: "(is_same_run && is_soon && ", to: "(is_soon && " },
    Mutation {
        what: "contradictions are ignored",
        from: "judge(view, &lineage, Situation::survey(view, policy, *wish, &lineage))",
        to: "judge(view, &view.lineage, Situation::survey(view, policy, *wish, &view.lineage))",
    },
    Mutation {
        what: "what is unknown is taken for equal",
        from: "let [contender] = contenders else {",
        to: "let [contender, ..] = contenders else {",
    },
    Mutation {
        what: "a decision is forgotten",
        from: "if let Some((index, decision)) = decision {",
        to: "if let Some((index, decision)) = decision.filter(|_| false) {",
    },
    Mutation {
        what: "an earlier decision is forgotten",
        from: "if !is_overruled {",
        to: "if !is_overruled && standing.is_empty() {",
    },
    Mutation {
        what: "the master is followed although the policy is to refuse",
        from: "&& policy.on_fork == OnFork::FollowMaster",
        to: "&& policy.on_fork != OnFork::FollowMaster",
    },
    Mutation {
        what: "what cannot be restored is chosen",
        from: "copies.eligible.push(candidate.is_eligible());",
        to: "copies.eligible.push(true);",
    },
    Mutation {
        what: "an emptied copy is chosen silently",
        from: "if shrunken.contains_key(&best) {",
        to: "if false {",
    },
    Mutation {
        what: "of equal copies the first one wins",
        from: "place > furthest || place == furthest && rank.of(i, shrunken) > rank.of(other, shrunken)",
        to: "place > furthest || place == furthest && other > 999",
    },
    Mutation {
        what: "data as of: off by one look",
        from: "Look::complete(place.history, own.and_then(|line| line.at_or_below(place.offset)))",
        to: "Look::complete(place.history, own.and_then(|line| line.at_or_above(place.offset)))",
    },
    Mutation {
        what: "the clock's error is added instead of subtracted",
        from: "saturating_sub(self.ahead_ms)",
        to: "saturating_add(self.ahead_ms)",
    },
    Mutation { what: "the loss guard forgets who is silent", from: "|| self.at_hand.hold(place) ||", to: "|| true ||" },
    Mutation {
        what: "a copy beyond the position that was asked for is chosen",
        from: "place.is_none_or(|place| !wished.holds(place))",
        to: "place.is_none_or(|_| !wished.holds(wished.place()))",
    },
];

/// The sources of the packages, copied into a workspace of their own.
struct Copy {
    root: PathBuf,
}

impl Copy {
    fn new() -> Self {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let from = own.ancestors().nth(2).expect("the package is two folders below the root").to_owned();
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
        for package in PACKAGES {
            copy_folder(&from.join(package), &root.join(package));
        }
        let manifest = fs::read_to_string(from.join("Cargo.toml")).expect("the root's manifest");
        let (before, rest) = manifest.split_once("members = [").expect("the list of members");
        let (_, after) = rest.split_once(']').expect("its end");
        // Most mistakes are found in a second: what counts is how fast the compiler is.
        let (after, _) = after.split_once("[profile.dev]").expect("the profiles come last");
        let members = PACKAGES.map(|package| format!("{package:?}")).join(", ");
        let profile = "[profile.dev]\nopt-level = 0\ndebug = false\n";
        write_if_new(&root.join("Cargo.toml"), format!("{before}members = [{members}]{after}{profile}").as_bytes());
        fs::copy(from.join("Cargo.lock"), root.join("Cargo.lock")).expect("the lock file");
        Self { root }
    }

    /// Builds the simulator and plays; `Err` is what the compiler says.
    fn play(&self) -> Result<Outcome, String> {
        let target = self.root.join("target");
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--offline", "--package", "urtext-simulator", "--bin", "urtext-simulator"])
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", &target)
            .env("CARGO_INCREMENTAL", "1")
            .env_remove("RUSTFLAGS")
            .output()
            .expect("cargo can be run");
        if !built.status.success() {
            return Err(String::from_utf8_lossy(&built.stderr).into_owned());
        }
        let deployments = DEPLOYMENTS.to_string();
        let played = Command::new(target.join("debug/urtext-simulator"))
            .args(["--deployments", &deployments, "--failures", "1", "--explain", "0"])
            .output()
            .expect("the simulator can be run");
        let text = String::from_utf8_lossy(&played.stdout).into_owned();
        let deployments =
            text.lines().find_map(|line| line.strip_prefix("deployments")).expect("a summary").trim().to_owned();
        let found = text.lines().find_map(|line| line.strip_prefix("seed ")?.split(": ").nth(1)).map(str::to_owned);
        assert_eq!(played.status.success(), found.is_none(), "{text}");
        Ok(Outcome { deployments, found })
    }
}

struct Outcome {
    deployments: String,
    /// The invariant that did not hold.
    found: Option<String>,
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder below the target directory");
    let mut names = Vec::new();
    for entry in fs::read_dir(from).expect("a folder of the sources") {
        let entry = entry.expect("an entry");
        names.push(entry.file_name());
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a file type").is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            write_if_new(&target, &fs::read(entry.path()).expect("a source"));
        }
    }
    for entry in fs::read_dir(to).expect("just made").flatten() {
        if !names.contains(&entry.file_name()) && entry.path().is_file() {
            fs::remove_file(entry.path()).expect("a file of an earlier copy");
        }
    }
}

fn read_sources(folder: &Path, sources: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(folder).expect("a folder of the copy").flatten() {
        if entry.path().is_dir() {
            read_sources(&entry.path(), sources);
        } else {
            sources.insert(entry.path(), fs::read_to_string(entry.path()).expect("a source"));
        }
    }
}

/// Cargo builds what is newer than before.
fn write_if_new(path: &Path, content: &[u8]) {
    if fs::read(path).ok().as_deref() != Some(content) {
        fs::write(path, content).expect("a file below the target directory");
    }
}

#[test]
fn each_mistake_is_caught() {
    let copy = Copy::new();
    let sound = copy.play().unwrap_or_else(|errors| panic!("the copy does not build:\n{errors}"));
    assert_eq!(sound.found, None, "without any mistake planted");
    let mut sources = BTreeMap::new();
    for package in &PACKAGES[..2] {
        read_sources(&copy.root.join(package).join("src"), &mut sources);
    }
    let mut table = format!("{:<66} {:>11}  {}\n", "mistake", "deployments", "caught by");
    let mut problems = Vec::new();
    for mutation in MUTATIONS {
        let places: Vec<&PathBuf> =
            sources.iter().flat_map(|(path, text)| text.matches(mutation.from).map(move |_| path)).collect();
        let [path] = places[..] else {
            problems.push(format!("{}: {:?} is in {places:?}, and not in one place", mutation.what, mutation.from));
            continue;
        };
        let original = &sources[path];
        fs::write(path, original.replace(mutation.from, mutation.to)).expect("a file of the copy");
        let outcome = copy.play();
        fs::write(path, original).expect("a file of the copy");
        let (deployments, caught_by) = match outcome {
            Ok(Outcome { deployments, found: Some(invariant) }) => (deployments, invariant),
            Ok(Outcome { deployments, found: None }) => {
                problems.push(format!("{}: survives", mutation.what));
                (deployments, "nothing".to_owned())
            }
            Err(errors) => {
                problems.push(format!("{}: does not build\n{errors}", mutation.what));
                continue;
            }
        };
        table.push_str(&format!("{:<66} {deployments:>11}  {caught_by}\n", mutation.what));
    }
    assert!(problems.is_empty(), "{}\n\n{table}", problems.join("\n"));
    // For the test's output.
    fs::write(Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations.txt"), &table).expect("the target directory");
    println(&table);
}

#[expect(clippy::print_stdout, reason = "a test's output is for whoever runs it with --no-capture")]
fn println(text: &str) {
    println!("{text}");
}
