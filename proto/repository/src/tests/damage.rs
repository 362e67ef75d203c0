//! Whatever is changed behind our back is found, and named.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use urtext_types::{ErrorKind, Explain};

use super::{back_up, key, noise, read_back, signer, stored};
use crate::{
    BackupReader, CompressionLevel, Identity, ManifestError, OpenError, PART_BYTES, ReadError, Recipients,
    SignedManifest, Store, StoreOperation, open, open_bytes, seal, seal_bytes,
    testing::{DigestSigner, DigestVerifier, FaultyStore, MemoryStore},
};

struct Fixture {
    memory: MemoryStore,
    identity: Identity,
    recipients: Recipients,
}

/// A repository in memory with one committed backup of `rdb`, `key(1)`.
async fn fixture(rdb: &[u8]) -> Fixture {
    let identity = Identity::generate();
    let recipients: Recipients = identity.recipient().into();
    let memory = MemoryStore::default();
    back_up(Arc::new(memory.clone()), &key(1), &recipients, rdb).await.expect("a backup");
    Fixture { memory, identity, recipients }
}

#[test]
fn every_flipped_bit_and_every_truncation_of_a_sealed_object_is_found() {
    let identity = [Identity::generate()];
    let recipients = identity[0].recipient().into();
    let sealed = seal(&recipients, CompressionLevel::Fast, b"REDIS0012 and more").expect("sealed");
    assert_eq!(open(&identity, &sealed.stored, 18).expect("opens"), b"REDIS0012 and more");
    for index in 0..sealed.stored.len() {
        for bit in 0..8 {
            let mut flipped = sealed.stored.to_vec();
            flipped[index] ^= 1 << bit;
            assert!(open(&identity, &flipped, 18).is_err(), "bit {bit} of byte {index}");
        }
        assert!(open(&identity, &sealed.stored[..index], 18).is_err(), "{index} bytes");
    }
}

#[test]
fn opening_is_bounded() {
    let identity = [Identity::generate()];
    let recipients = identity[0].recipient().into();
    let sealed = seal(&recipients, CompressionLevel::Small, &vec![0; PART_BYTES + 1]).expect("sealed");
    assert!(sealed.stored.len() < 10_000, "a small object that opens to a large one");
    let error = open(&identity, &sealed.stored, PART_BYTES).expect_err("too large");
    assert!(matches!(error, OpenError::TooLarge { .. }), "{error}");
    assert_eq!(open(&identity, &sealed.stored, PART_BYTES + 1).expect("just so").len(), PART_BYTES + 1);
}

#[test]
fn a_frame_that_asks_for_a_huge_window_is_refused() {
    let identity = [Identity::generate()];
    let recipients: Recipients = identity[0].recipient().into();
    // A zstd frame header with a window of 2 GiB (descriptor 0xa8), then one empty last block.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    let sealed = seal_bytes(&recipients, &frame).expect("sealed");
    let error = open(&identity, &sealed, PART_BYTES).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Integrity);
}

#[test]
fn a_small_secret_opens_for_its_recipient_alone() {
    let (identity, other) = (Identity::generate(), Identity::generate());
    let sealed = seal_bytes(&identity.recipient().into(), b"AGE-SECRET").expect("sealed");
    assert_eq!(open_bytes(&[other.clone(), identity], &sealed).expect("opens").expose(), b"AGE-SECRET");
    assert!(matches!(open_bytes(&[other], &sealed), Err(OpenError::WrongKey)));
}

#[tokio::test]
async fn every_flipped_bit_of_a_manifest_is_found() {
    let Fixture { memory, .. } = fixture(b"REDIS0012").await;
    let good = stored(&memory, &key(1).manifest()).await;
    let verify = |bytes: &[u8]| SignedManifest::parse(&key(1), bytes)?.verify(&DigestVerifier);
    verify(&good).expect("as it was stored");
    for index in 0..good.len() {
        for bit in 0..8 {
            let mut flipped = good.to_vec();
            flipped[index] ^= 1 << bit;
            let error = verify(&flipped).expect_err(&format!("bit {bit} of byte {index}"));
            assert!(error.to_string().contains(&key(1).to_string()), "names the backup: {error}");
        }
    }
}

#[tokio::test]
async fn a_manifest_edited_by_hand_is_a_matter_of_integrity() {
    let Fixture { memory, identity, .. } = fixture(b"REDIS0012").await;
    memory.tamper(&key(1).manifest(), |bytes| {
        Some(String::from_utf8(bytes).expect("JSON").replace("\"offset\":48211", "\"offset\":99999").into())
    });
    let error = read_back(Arc::new(memory), &key(1), &identity).await.expect_err("edited");
    assert!(matches!(&error, ReadError::Manifest(ManifestError::Signature { .. })), "{error}");
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains("changed after it was signed"), "{error}");
}

#[tokio::test]
async fn a_manifest_of_another_backup_or_node_is_refused() {
    let Fixture { memory, identity, .. } = fixture(b"REDIS0012").await;
    let good = stored(&memory, &key(1).manifest()).await;
    memory.put_new(&key(2).manifest(), good.clone()).await.expect("copied");
    let error = read_back(Arc::new(memory.clone()), &key(2), &identity).await.expect_err("copied");
    assert!(matches!(&error, ReadError::Manifest(ManifestError::Misplaced { .. })), "{error}");

    let manifest = SignedManifest::parse(&key(1), &good).and_then(|m| m.verify(&DigestVerifier)).expect("good");
    let forged =
        SignedManifest::seal(&manifest, &DigestSigner::new("nyc-1")).and_then(|m| m.to_bytes()).expect("signed");
    let error = SignedManifest::parse(&key(1), &forged).and_then(|m| m.verify(&DigestVerifier)).expect_err("forged");
    assert!(matches!(error, ManifestError::Signature { .. }), "{error}");
}

#[tokio::test]
async fn a_manifest_of_a_later_format_is_not_guessed_at() {
    let Fixture { memory, .. } = fixture(b"REDIS0012").await;
    memory.tamper(&key(1).manifest(), |bytes| {
        Some(String::from_utf8(bytes).expect("JSON").replacen("\"format_version\":1", "\"format_version\":2", 1).into())
    });
    let error = BackupReader::open(Arc::new(memory), key(1), &DigestVerifier).await.err().expect("a later format");
    assert!(matches!(error, ReadError::Manifest(ManifestError::Version { found: 2, .. })), "{error}");
}

#[tokio::test]
async fn fields_of_later_writers_are_tolerated_and_still_signed() {
    let Fixture { memory, .. } = fixture(b"REDIS0012").await;
    let good = stored(&memory, &key(1).manifest()).await;
    let manifest = SignedManifest::parse(&key(1), &good).and_then(|m| m.verify(&DigestVerifier)).expect("good");
    let mut value = serde_json::to_value(&manifest).expect("JSON");
    value["moon_phase"] = "waning".into();
    let raw = value.to_string();
    let signature = crate::ManifestSigner::sign(&signer(), raw.as_bytes()).expect("signed");
    let signature = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, signature);
    let envelope = format!(
        r#"{{"manifest":{raw},"signature":{{"algorithm":"ecdsa-p256-sha256","certificate":"fra-2","value":"{signature}"}}}}"#
    );
    let read = SignedManifest::parse(&key(1), envelope.as_bytes()).and_then(|m| m.verify(&DigestVerifier));
    assert_eq!(read.expect("later fields do not matter"), manifest);
    let edited = envelope.replace("waning", "waxing");
    let read = SignedManifest::parse(&key(1), edited.as_bytes()).and_then(|m| m.verify(&DigestVerifier));
    assert!(matches!(read, Err(ManifestError::Signature { .. })));
}

/// Damages one object, then reads and verifies: both must name it.
async fn check_damage(
    object: crate::ObjectName,
    damage: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>,
    expect: fn(&ReadError) -> bool,
) {
    let Fixture { memory, identity, .. } = fixture(&noise(5, 2 * PART_BYTES + 5)).await;
    memory.tamper(&object, damage);
    let reader =
        BackupReader::open(Arc::new(memory.clone()), key(1), &DigestVerifier).await.expect("its manifest is good");
    let verified = reader.verify_stored().await.expect_err("damaged");
    let read = read_back(Arc::new(memory), &key(1), &identity).await.expect_err("damaged");
    for error in [verified, read] {
        assert!(expect(&error), "{error}");
        assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
        assert!(error.to_string().contains(object.as_str()), "names the object: {error}");
    }
}

#[tokio::test]
async fn a_part_flipped_by_one_bit_is_named() {
    let flip = |mut bytes: Vec<u8>| {
        bytes[1_000_000] ^= 1;
        Some(bytes)
    };
    check_damage(key(1).part(1), flip, |error| matches!(error, ReadError::StoredDigest { .. })).await;
}

#[tokio::test]
async fn a_truncated_part_is_named() {
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() - 1);
        Some(bytes)
    };
    check_damage(key(1).part(2), cut, |error| matches!(error, ReadError::StoredSize { .. })).await;
}

#[tokio::test]
async fn a_missing_part_is_named() {
    check_damage(key(1).part(0), |_| None, |error| matches!(error, ReadError::Missing { .. })).await;
}

#[tokio::test]
async fn parts_of_another_order_are_not_the_rdb() {
    let Fixture { memory, identity, .. } = fixture(&noise(6, 2 * PART_BYTES)).await;
    let (first, second) = (stored(&memory, &key(1).part(0)).await, stored(&memory, &key(1).part(1)).await);
    memory.tamper(&key(1).part(0), |_| Some(second.to_vec()));
    memory.tamper(&key(1).part(1), |_| Some(first.to_vec()));
    let error = read_back(Arc::new(memory), &key(1), &identity).await.expect_err("swapped");
    assert_eq!(error.kind(), ErrorKind::Integrity, "{error}");
}

/// An agent that signs a manifest whose digests do not belong together: each part is what the manifest
/// says, and the whole is not.
#[tokio::test]
async fn the_whole_rdb_is_compared_before_its_last_part_is_given_out() {
    let Fixture { memory, identity, .. } = fixture(b"REDIS0012").await;
    let bytes = stored(&memory, &key(1).manifest()).await;
    let mut manifest = SignedManifest::parse(&key(1), &bytes).and_then(|m| m.verify(&DigestVerifier)).expect("good");
    manifest.rdb.sha256 = crate::Sha256Digest::of(b"something else");
    let signed = SignedManifest::seal(&manifest, &signer()).and_then(|m| m.to_bytes()).expect("signed");
    memory.tamper(&key(1).manifest(), |_| Some(signed.to_vec()));
    let reader = BackupReader::open(Arc::new(memory), key(1), &DigestVerifier).await.expect("committed");
    let error = reader.rdb(vec![identity]).expect("its key").next().await.expect_err("not the whole");
    assert!(matches!(error, ReadError::WholeDigest { .. }), "{error}");
}

#[tokio::test]
async fn a_wrong_key_is_said_before_anything_is_downloaded() {
    let Fixture { memory, recipients, .. } = fixture(b"REDIS0012").await;
    let reads = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reads);
    let store = FaultyStore::new(memory, move |_, operation, _| {
        assert_eq!(operation, StoreOperation::Get);
        counter.fetch_add(1, Ordering::SeqCst);
        None
    });
    let error = read_back(Arc::new(store), &key(1), &Identity::generate()).await.expect_err("a wrong key");
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(error.to_string().contains(&recipients.to_string()), "says which would do: {error}");
    assert_eq!(reads.load(Ordering::SeqCst), 1, "the manifest alone was read");
}
