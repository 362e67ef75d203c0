//! Keys change, and what was sealed before stays readable for those who should read it.

use std::sync::Arc;

use bytes::Bytes;
use urtext_types::{RecordId, RepositoryId, Timestamp};

use super::{back_up, key, noise, read_back};
use crate::{
    FORMAT_VERSION, Handover, Identity, KeyChange, Keyring, KeysError, Location, OperatorVerifier, Recipient,
    Recipients, Repository, SignatureError, Store,
    testing::{DigestSigner, DigestVerifier, MemoryStore},
};

impl OperatorVerifier for DigestVerifier {
    fn verify_operator(&self, certificate: &str, bytes: &[u8], signature: &[u8]) -> Result<String, SignatureError> {
        let right = crate::ManifestSigner::sign(&DigestSigner::new(certificate), bytes)?;
        if right == signature { Ok(certificate.to_owned()) } else { Err("the signature does not match".into()) }
    }
}

fn recipients(identities: &[&Identity]) -> Recipients {
    Recipients::try_from(identities.iter().map(|one| one.recipient()).collect::<Vec<Recipient>>()).expect("some")
}

async fn repository(first: &[&Identity]) -> (Arc<dyn Store>, Repository) {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::default());
    let id = RepositoryId::new(Timestamp::from_millis(1), [1; 10]);
    let repository = Repository::init(Arc::clone(&store), id, recipients(first)).await.expect("made");
    (store, repository)
}

async fn keyring(repository: &Repository) -> Keyring {
    repository.keyring(&DigestVerifier).await.expect("the keys are read")
}

fn change(keyring: &Keyring, to: &Recipients, handover: &Handover) -> KeyChange {
    let at = Timestamp::from_millis(1_700_000_000_000);
    KeyChange {
        format_version: FORMAT_VERSION,
        id: keyring.next_id(at, [2; 10]),
        repository: keyring.repository,
        recipients: to.clone(),
        handed_on: handover.identities.clone(),
        who: "alice".to_owned(),
        at,
        reason: Some("bob left".to_owned()),
    }
}

/// Changes the keys as an operator does who holds `own`.
async fn rekey(repository: &Repository, to: &[&Identity], own: &[&Identity]) -> Handover {
    let (keyring, to) = (keyring(repository).await, recipients(to));
    let own: Vec<Identity> = own.iter().map(|&one| one.clone()).collect();
    let handover = keyring.hand_on(&to, &own).expect("sealed");
    let change = change(&keyring, &to, &handover);
    let signed = change.seal(&DigestSigner::new("alice")).expect("signed");
    repository.change_keys(&signed, change.id, handover.sealed.clone()).await.expect("changed");
    handover
}

/// Whether the holder of `own` alone reads what is sealed to `to`.
async fn opens(repository: &Repository, own: &Identity, to: &[&Identity]) -> bool {
    let keyring = keyring(repository).await;
    let (unlocked, broken) = keyring.unlock(std::slice::from_ref(own));
    assert_eq!(broken, Vec::<String>::new());
    let (to, opens) = (recipients(to), recipients(to).can_be_opened_by(&unlocked));
    assert_eq!(keyring.openers(&to).contains(&own.recipient()), opens, "what is said beforehand is what comes");
    opens
}

#[tokio::test]
async fn after_two_changes_the_newest_key_alone_reads_everything() {
    let [a, b, c] = std::array::from_fn(|_| Identity::generate());
    let (store, repository) = repository(&[&a]).await;
    let rdb = noise(1, 5000);
    back_up(Arc::clone(&store), &key(1), &recipients(&[&a]), &rdb).await.expect("a backup");
    let handover = rekey(&repository, &[&b], &[&a]).await;
    assert_eq!(handover.identities, [a.recipient()]);
    assert_eq!(repository.recipients(&DigestVerifier).await.expect("read"), recipients(&[&b]));
    // Whoever changes the keys next holds the newest one alone.
    let handover = rekey(&repository, &[&c], &[&b]).await;
    assert_eq!(handover.identities, [a.recipient(), b.recipient()]);
    assert!(handover.left_behind.is_empty());

    assert!(opens(&repository, &c, &[&a]).await && opens(&repository, &c, &[&b]).await);
    // An old key goes on opening what was sealed to it, and nothing else.
    assert!(opens(&repository, &a, &[&a]).await && !opens(&repository, &a, &[&b]).await);
    assert!(!opens(&repository, &b, &[&c]).await);
    let (unlocked, _) = keyring(&repository).await.unlock(&[c]);
    let opening = unlocked.into_iter().find(|one| one.recipient() == a.recipient()).expect("handed on");
    assert!(read_back(store, &key(1), &opening).await.expect("opens") == rdb);
}

#[tokio::test]
async fn what_nobody_can_hand_on_is_named_and_stays_with_its_key() {
    let [a, b, c] = std::array::from_fn(|_| Identity::generate());
    let (_, repository) = repository(&[&a]).await;
    let handover = rekey(&repository, &[&b], &[]).await;
    assert_eq!(handover.left_behind, [recipients(&[&a])]);
    assert!(handover.sealed.is_none() && handover.identities.is_empty());
    assert!(!opens(&repository, &b, &[&a]).await);
    // It can be made good for as long as somebody has the key, also without any other change.
    let handover = rekey(&repository, &[&b], &[&a]).await;
    assert_eq!((handover.identities, handover.left_behind), (vec![a.recipient()], vec![]));
    assert!(opens(&repository, &b, &[&a]).await);
    let nothing = keyring(&repository).await.hand_on(&recipients(&[&b]), &[]).expect("nothing to seal");
    assert!(nothing.identities.is_empty() && nothing.left_behind.is_empty());
    let handover = rekey(&repository, &[&b, &c], &[&a, &b]).await;
    assert_eq!(handover.left_behind, []);
    for one in [&b, &c] {
        assert!(opens(&repository, one, &[&a]).await && opens(&repository, one, &[&b]).await);
    }
}

#[tokio::test]
async fn an_identity_that_comes_late_reaches_those_who_were_given_its_holders() {
    let [a, b, c] = std::array::from_fn(|_| Identity::generate());
    let (_, repository) = repository(&[&a]).await;
    rekey(&repository, &[&b], &[]).await;
    rekey(&repository, &[&c], &[&b]).await;
    assert!(!opens(&repository, &c, &[&a]).await);
    // To b, whose identity c has.
    rekey(&repository, &[&b], &[&a]).await;
    assert!(opens(&repository, &c, &[&a]).await && opens(&repository, &b, &[&a]).await);
}

#[tokio::test]
async fn a_key_that_stays_is_handed_on_only_where_it_must_be() {
    let [a, b, c] = std::array::from_fn(|_| Identity::generate());
    let (_, repository) = repository(&[&a, &b]).await;
    // Both are on the only list that there was: nothing needs to be handed on.
    assert_eq!(rekey(&repository, &[&a], &[&a]).await.identities, []);
    // c needs one of the first list and a's of the second; a's is both.
    assert_eq!(rekey(&repository, &[&a, &c], &[&a, &b]).await.identities, [b.recipient(), a.recipient()]);
}

#[tokio::test]
async fn a_change_that_no_operator_signed_changes_nothing() {
    let [a, b, mallory] = std::array::from_fn(|_| Identity::generate());
    let (store, repository) = repository(&[&a]).await;
    rekey(&repository, &[&b], &[&a]).await;
    let keys = keyring(&repository).await;
    let forged = change(&keys, &recipients(&[&mallory]), &keys.hand_on(&recipients(&[&a]), &[]).expect("none"));
    let good = forged.seal(&DigestSigner::new("alice")).expect("signed");
    let text = String::from_utf8(good.to_vec()).expect("JSON");
    let place = |at: i64| Location::Keys(RecordId::new(Timestamp::from_millis(at), [0; 10])).name();
    let of_bob = forged.seal(&DigestSigner::new("bob")).expect("signed");
    let elsewhere = KeyChange { repository: RepositoryId::new(Timestamp::from_millis(2), [9; 10]), ..forged.clone() };
    let elsewhere = elsewhere.seal(&DigestSigner::new("alice")).expect("signed");
    let far = 1_900_000_000_000;
    for (at, bytes) in [
        (far, good.clone()),
        (far + 1, Bytes::from(text.replace("bob left", "bob went"))),
        (far + 2, of_bob),
        (far + 3, elsewhere),
        (far + 4, Bytes::from_static(b"{}")),
        (far + 5, Bytes::from(text.replace("ecdsa-p256-sha256", "none"))),
    ] {
        store.put_new(&place(at), bytes).await.expect("put");
    }
    assert_eq!(repository.recipients(&DigestVerifier).await.expect("read"), recipients(&[&b]));
    let disbelieved = keyring(&repository).await.disbelieved;
    assert_eq!(disbelieved.len(), 6, "{disbelieved:#?}");
    for (sentence, expect) in disbelieved.iter().zip([
        "says that it is",
        "does not match",
        "bob signed it",
        "says that it is",
        "not the JSON",
        "its algorithm is \"none\"",
    ]) {
        assert!(sentence.contains(expect), "{sentence}");
    }
}

#[tokio::test]
async fn two_changes_at_once_do_not_undo_each_other_unseen() {
    let [a, b, c] = std::array::from_fn(|_| Identity::generate());
    let (_, repository) = repository(&[&a]).await;
    let before = keyring(&repository).await;
    rekey(&repository, &[&b], &[&a]).await;
    rekey(&repository, &[&c], &[&b]).await;
    let to = recipients(&[&a]);
    let late = change(&before, &to, &before.hand_on(&to, &[]).expect("none"));
    let signed = late.seal(&DigestSigner::new("alice")).expect("signed");
    let refused = repository.change_keys(&signed, late.id, None).await.expect_err("refused");
    assert!(matches!(refused, KeysError::NotTheNewest { .. }), "{refused:?}");
    assert_eq!(*keyring(&repository).await.current(), recipients(&[&c]));
}

#[tokio::test]
async fn foreign_bytes_below_keys_hide_nothing() {
    let [a, b] = std::array::from_fn(|_| Identity::generate());
    let (store, repository) = repository(&[&a]).await;
    rekey(&repository, &[&b], &[&a]).await;
    let sealed_nonsense = crate::seal_bytes(&recipients(&[&b]), b"no identity").expect("sealed");
    for (at, bytes) in [(5, b"no age file".to_vec()), (6, sealed_nonsense)] {
        let name = Location::HandedOn(RecordId::new(Timestamp::from_millis(at), [0; 10])).name();
        store.put_new(&name, bytes.into()).await.expect("put");
    }
    let (unlocked, broken) = keyring(&repository).await.unlock(std::slice::from_ref(&b));
    assert!(recipients(&[&a]).can_be_opened_by(&unlocked));
    assert_eq!(broken.len(), 2, "{broken:?}");
}

#[tokio::test]
async fn authorities_are_kept_once_and_believed_unchanged() {
    let (store, repository) = repository(&[&Identity::generate()]).await;
    repository.put_authority("one").await.expect("put");
    repository.put_authority("one").await.expect("put again");
    repository.put_authority("other").await.expect("put");
    let forged = Location::Authority(crate::Sha256Digest::of(b"third")).name();
    store.put_new(&forged, Bytes::from_static(b"fourth")).await.expect("put");
    let mut found = repository.authorities().await.expect("read");
    found.sort_unstable();
    assert_eq!(found, ["one", "other"]);
}
