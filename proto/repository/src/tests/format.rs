//! `FORMAT.md` is true: its examples are what we read and write, its commands restore.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    sync::Arc,
};

use urtext_types::{RepositoryId, Secret, Timestamp};

use super::{back_up, key, noise};
use crate::{
    BackupKey, DirectoryStore, Identity, IdentityFile, KeyChange, Keyring, Manifest, ManifestSigner, PART_BYTES,
    Recipients, Record, Repository, RepositoryHeader, SignatureError, SignedManifest, open, seal_with_passphrase,
};

/// The code block of `FORMAT.md` that is marked so.
pub(super) fn block(mark: &str) -> &'static str {
    let text = include_str!("../../FORMAT.md");
    let begin = text.find(&format!("```{mark}\n")).expect("a marked block") + "```".len() + mark.len() + 1;
    let length = text[begin..].find("```").expect("an end");
    &text[begin..begin + length]
}

/// An example must read, and write back with the same fields and values.
#[track_caller]
fn check_example<T: serde::Serialize + serde::de::DeserializeOwned>(mark: &str) -> T {
    let value: T = serde_json::from_str(block(mark)).expect("the example reads");
    let example: serde_json::Value = serde_json::from_str(block(mark)).expect("the example is JSON");
    assert_eq!(serde_json::to_value(&value).expect("it writes"), example);
    value
}

#[test]
fn the_examples_are_what_we_read_and_write() {
    let _: RepositoryHeader = check_example("json header");
    let manifest: Manifest = check_example("json manifest");
    assert_eq!(manifest.key().to_string(), "backups/orders/0/01KAQ2Z7M80000000000000000");
    let record: Record = check_example("json record");
    assert_eq!(record.name().as_str(), "records/orders/accepted-lineage/01KAQ2Z7M80000000000000000.json");
    let change: KeyChange = check_example("json keys");
    assert_eq!(change.name().as_str(), "keys/01KAQ2Z7M80000000000000000.json");
}

/// Whether the ordinary tools are here; says so if not.
fn have(tools: &[&str]) -> bool {
    tools.iter().all(|tool| {
        let found = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output();
        let found = found.is_ok_and(|output| output.status.success());
        if !found {
            super::skip(&format!("{tool} is not installed"));
        }
        found
    })
}

/// Runs a script in a folder, with `KEY` set; it must succeed.
#[track_caller]
fn run(folder: &Path, key_file: &Path, script: &str) -> Output {
    let output = Command::new("bash")
        .args(["-e", "-o", "pipefail", "-c", script])
        .current_dir(folder)
        .env("KEY", key_file)
        .output()
        .expect("bash runs");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// One committed backup in a directory, and the folder that holds it.
async fn backup_in(root: &Path, recipients: &Recipients, rdb: &[u8]) -> (BackupKey, std::path::PathBuf) {
    let store = DirectoryStore::create(root).expect("a directory");
    back_up(Arc::new(store), &key(1), recipients, rdb).await.expect("a backup");
    (key(1), root.join(key(1).to_string()))
}

#[tokio::test]
async fn ordinary_tools_restore_what_we_wrote() {
    if !have(&["age", "age-keygen", "zstd", "sha256sum", "jq"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let key_file = directory.path().join("identity.txt");
    run(directory.path(), &key_file, "age-keygen -o $KEY");
    let public = run(directory.path(), &key_file, "age-keygen -y $KEY");
    // Their key is ours: the same public half is derived from the file.
    let identities = Identity::parse_file(&fs::read_to_string(&key_file).expect("a key file")).expect("an identity");
    let public = String::from_utf8(public.stdout).expect("text");
    assert_eq!(identities[0].recipient().to_string(), public.trim());

    let mut rdb = noise(3, 2 * PART_BYTES + 54_321);
    rdb[1000..PART_BYTES].fill(b'x');
    let recipients =
        Recipients::try_from(vec![Identity::generate().recipient(), public.trim().parse().expect("a key")]);
    let (_, folder) = backup_in(&directory.path().join("repository"), &recipients.expect("two"), &rdb).await;
    run(&folder, &key_file, block("sh restore"));
    assert!(fs::read(folder.join("dump.rdb")).expect("restored") == rdb);
    run(&folder, &key_file, block("sh check"));
    assert_eq!(run(&folder, &key_file, block("sh settings")).stdout, b"{\"acl\":[]}");

    // One changed byte, and the check of the page says so.
    rdb[7] ^= 1;
    fs::write(folder.join("dump.rdb"), &rdb).expect("changed");
    let check = Command::new("bash").args(["-e", "-c", block("sh check")]).current_dir(&folder).status();
    assert!(!check.expect("bash runs").success());
}

#[tokio::test]
async fn a_newer_key_opens_an_older_backup_with_ordinary_tools() {
    if !have(&["age", "age-keygen", "zstd", "sha256sum", "jq"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let key_file = directory.path().join("identity.txt");
    run(directory.path(), &key_file, "age-keygen -o $KEY");
    let text = fs::read_to_string(&key_file).expect("a key file");
    let new = Recipients::from(Identity::parse_file(&text).expect("an identity")[0].recipient());
    let old = Identity::generate();
    let root = directory.path().join("repository");
    let (_, folder) = backup_in(&root, &Recipients::from(old.recipient()), &noise(6, 10_000)).await;
    let store = Arc::new(DirectoryStore::open(&root).expect("a directory"));
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(store, id, Recipients::from(old.recipient())).await.expect("made");
    let (changes, handed_on, disbelieved) = (Vec::new(), Vec::new(), Vec::new());
    let first = Recipients::from(old.recipient());
    let keyring = Keyring { repository: id, first, changes, handed_on, disbelieved };
    let sealed = keyring.hand_on(&new, &[old]).expect("sealed").sealed;
    let change: KeyChange = check_example("json keys");
    let signed = change.seal(&super::signer()).expect("signed");
    repository.change_keys(&signed, change.id, sealed).await.expect("changed");

    let script = block("sh older").replace("…", &change.id.to_string());
    run(&root, &key_file, &script);
    run(&folder, &root.join("older-identities"), block("sh restore"));
    run(&folder, &key_file, block("sh check"));
}

#[test]
fn an_identity_under_a_passphrase_goes_both_ways() {
    if !have(&["age", "age-keygen", "script"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let key_file = directory.path().join("identity.txt");
    // age asks on a terminal, twice: script is one. That the file is armored makes it text, as ours are.
    let typed = "(sleep 0.3; echo hunter22; sleep 0.3; echo hunter22; sleep 0.5)";
    let age = "sh -c 'age-keygen 2>/dev/null | age -p -a -o theirs.age'";
    run(directory.path(), &key_file, &format!("{typed} | script -qec \"{age}\" /dev/null"));
    let bytes = fs::read(directory.path().join("theirs.age")).expect("what age wrote");
    let Ok(IdentityFile::Sealed(file)) = IdentityFile::parse(&bytes) else { panic!("it is sealed") };
    let secret = |text: &str| Secret::new(text.to_owned());
    assert_eq!(file.open(&secret("hunter22")).expect("opens").len(), 1);
    let own = seal_with_passphrase(&secret("AGE-SECRET-KEY-…"), &secret("hunter23")).expect("sealed");
    fs::write(directory.path().join("own.age"), own).expect("a file");
    let open = "(sleep 0.3; echo hunter23; sleep 0.5) | script -qec 'age -d -o own.txt own.age' /dev/null";
    run(directory.path(), &key_file, open);
    assert_eq!(fs::read_to_string(directory.path().join("own.txt")).expect("opened"), "AGE-SECRET-KEY-…");
}

/// Signs with a key in a file, as an agent does with the key of its certificate.
struct OpensslSigner {
    folder: std::path::PathBuf,
    certificate: String,
}

impl ManifestSigner for OpensslSigner {
    fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, SignatureError> {
        fs::write(self.folder.join("to-sign"), bytes)?;
        Ok(run(&self.folder, Path::new("unused"), "openssl dgst -sha256 -sign key.pem to-sign").stdout)
    }

    fn certificate_pem(&self) -> &str {
        &self.certificate
    }
}

#[tokio::test]
async fn ordinary_tools_verify_what_was_signed() {
    if !have(&["openssl", "python3"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let no_key = Path::new("unused");
    let make =
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -subj /CN=fra-2 2>&1";
    run(directory.path(), no_key, &format!("{make} -out certificate.pem"));
    let certificate = fs::read_to_string(directory.path().join("certificate.pem")).expect("a certificate");
    let signer = OpensslSigner { folder: directory.path().to_owned(), certificate };

    let manifest: Manifest = check_example("json manifest");
    let bytes = SignedManifest::seal(&manifest, &signer).and_then(|signed| signed.to_bytes()).expect("signed");
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(folder.path().join("manifest.json"), &bytes).expect("a manifest");
    run(folder.path(), no_key, block("sh verify"));

    let edited = String::from_utf8(bytes.to_vec()).expect("JSON").replace("\"offset\":48211", "\"offset\":48212");
    fs::write(folder.path().join("manifest.json"), edited).expect("a manifest");
    let verify = Command::new("bash").args(["-e", "-c", block("sh verify")]).current_dir(folder.path()).output();
    assert!(!verify.expect("bash runs").status.success());
}

#[tokio::test]
async fn we_open_what_ordinary_tools_sealed() {
    if !have(&["age", "zstd"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let identity = Identity::generate();
    let plaintext = noise(4, 3_000_000);
    fs::write(directory.path().join("plain"), &plaintext).expect("a file");
    let seal = format!("zstd -19 -c plain | age -r {} > sealed", identity.recipient());
    run(directory.path(), Path::new("unused"), &seal);
    let sealed = fs::read(directory.path().join("sealed")).expect("sealed");
    assert!(open(&[identity], &sealed, PART_BYTES).expect("opens") == plaintext);
}
