//! A bucket that keeps versions, as it was first written: nothing deleted, nothing overwritten.
//!
//! Urtext creates every object once. So the first version of a name is the right one, whatever somebody who
//! got hold of credentials has put over it, and a name that was deleted is one that was hidden. (What [`crate::repair`]
//! put in the place of a damaged object is a later version, and is not seen here.)

use std::collections::VecDeque;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    TryStreamExt, future,
    stream::{self, BoxStream, StreamExt},
};
use object_store::{GetOptions, path::Path as ObjectPath};
use quick_xml::de::from_reader;
use serde::Deserialize;
use urtext_types::{Chain, Timestamp};

use super::{BucketStore, ObjectInfo, PutOutcome, Store, StoreError, StoreOperation};
use crate::{ObjectName, ObjectPrefix};

/// The first version of every object in a bucket. For reading only.
#[derive(Debug, Clone)]
pub struct FirstVersions(BucketStore);

/// One page of `ListObjectVersions`: names ascending, the versions of each from the newest to the oldest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Page {
    #[serde(default)]
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_version_id_marker: Option<String>,
    #[serde(default, rename = "Version")]
    versions: Vec<Version>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Version {
    key: String,
    version_id: String,
    size: u64,
    last_modified: Timestamp,
}

/// Where a listing stands.
struct Listing {
    prefix: String,
    /// Where the next page begins; `None` after the last one.
    next: Option<(String, String)>,
    /// The oldest version seen of the name that the last page ended with: older ones may follow.
    open: Option<Version>,
    ready: VecDeque<Version>,
}

impl Listing {
    fn new(prefix: String) -> Self {
        Self { prefix, next: Some((String::new(), String::new())), open: None, ready: VecDeque::new() }
    }

    /// Of each name the last one that is listed, which is the first one that was put.
    fn add(&mut self, page: Page) {
        for version in page.versions {
            if let Some(before) = self.open.replace(version)
                && self.open.as_ref().is_some_and(|open| open.key != before.key)
            {
                self.ready.push_back(before);
            }
        }
        self.next = page
            .is_truncated
            .then(|| (page.next_key_marker.unwrap_or_default(), page.next_version_id_marker.unwrap_or_default()));
        if self.next.is_none() {
            self.ready.extend(self.open.take());
        }
    }
}

impl FirstVersions {
    pub(crate) fn of(bucket: BucketStore) -> Self {
        Self(bucket)
    }

    async fn page(&self, listing: &Listing, markers: &(String, String)) -> Result<Page, StoreError> {
        let failed = |problem: String| {
            let object = if listing.prefix.is_empty() { "its objects" } else { &listing.prefix };
            self.0.failed_because(StoreOperation::List, object, 0, problem)
        };
        let Some(s3) = &self.0.s3 else { return Err(failed("only S3 keeps versions".to_owned())) };
        let (key, version) = markers;
        let mut query = vec![("versions", ""), ("prefix", listing.prefix.as_str())];
        if !key.is_empty() {
            query.push(("key-marker", key));
        }
        if !version.is_empty() {
            query.push(("version-id-marker", version));
        }
        let answer = s3.ask("GET", &ObjectPath::from(""), &query, String::new()).await;
        let answer = answer.map_err(|error| failed(Chain(&*error).to_string()))?;
        if !answer.is_success() {
            return Err(failed(answer.to_string()));
        }
        from_reader(&answer.body[..]).map_err(|error| failed(error.to_string()))
    }

    /// The first version of everything whose name begins like that.
    fn versions(&self, prefix: String) -> BoxStream<'static, Result<Version, StoreError>> {
        let own = self.clone();
        stream::try_unfold(Listing::new(prefix), move |mut listing| {
            let own = own.clone();
            async move {
                loop {
                    if let Some(version) = listing.ready.pop_front() {
                        return Ok(Some((version, listing)));
                    }
                    let Some(markers) = listing.next.take() else { return Ok(None) };
                    let page = own.page(&listing, &markers).await?;
                    listing.add(page);
                }
            }
        })
        .boxed()
    }
}

#[async_trait]
impl Store for FirstVersions {
    async fn put_new(&self, _name: &ObjectName, _bytes: Bytes) -> Result<PutOutcome, StoreError> {
        let source = "an address with versions=first shows what was first written, and is for reading only".into();
        Err(StoreError::Refused { place: self.0.place.clone(), source })
    }

    async fn get(&self, name: &ObjectName) -> Result<Bytes, StoreError> {
        let path = self.0.path(name.as_str());
        let mut versions = self.versions(path.to_string());
        // Longer names that begin alike come later.
        let first = versions.try_next().await?.filter(|version| version.key == path.as_ref());
        let Some(first) = first else {
            return Err(StoreError::NotFound { object: name.to_string(), place: self.0.place.clone() });
        };
        let options = GetOptions { version: Some(first.version_id), ..GetOptions::default() };
        self.0.read(name, options).await
    }

    fn list(&self, prefix: &ObjectPrefix) -> BoxStream<'static, Result<ObjectInfo, StoreError>> {
        let below = match self.0.path(prefix.as_str()).as_ref() {
            "" => String::new(),
            path => format!("{path}/"),
        };
        let own = self.0.clone();
        self.versions(below)
            .try_filter_map(move |version| {
                let name = own.name_of(&version.key);
                future::ready(Ok(name.map(|name| ObjectInfo {
                    name,
                    size: version.size,
                    modified: Some(version.last_modified),
                })))
            })
            .boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(key: &str, id: &str) -> Version {
        Version {
            key: key.to_owned(),
            version_id: id.to_owned(),
            size: 5,
            last_modified: Timestamp::from_millis(1_800_000_000_000),
        }
    }

    fn page(text: &str) -> Page {
        from_reader(text.as_bytes()).expect("a page")
    }

    #[test]
    fn of_each_name_the_oldest_version_is_given_across_pages() {
        let entry = |kind: &str, key: &str, id: &str| {
            format!(
                "<{kind}><Key>{key}</Key><VersionId>{id}</VersionId><IsLatest>false</IsLatest><Size>5</Size>\
                 <LastModified>2027-01-15T08:00:00Z</LastModified></{kind}>"
            )
        };
        let mut listing = Listing::new(String::new());
        let (a3, gone, a2) = (entry("Version", "a", "3"), entry("DeleteMarker", "a", "x"), entry("Version", "a", "2"));
        let ends = "<IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>\
                    <NextVersionIdMarker>2</NextVersionIdMarker>";
        listing.add(page(&format!("<ListVersionsResult>{ends}{a3}{gone}{a2}</ListVersionsResult>")));
        assert!(listing.ready.is_empty(), "an older one may follow");
        assert_eq!(listing.next, Some(("a".to_owned(), "2".to_owned())));
        let (a1, b1, only_gone, c2, c1) = (
            entry("Version", "a", "1"),
            entry("Version", "b", "1"),
            entry("DeleteMarker", "bb", "1"),
            entry("Version", "c", "2"),
            entry("Version", "c", "1"),
        );
        listing.add(page(&format!("<ListVersionsResult>{a1}{b1}{only_gone}{c2}{c1}</ListVersionsResult>")));
        assert_eq!(listing.ready, [version("a", "1"), version("b", "1"), version("c", "1")]);
        assert_eq!(listing.next, None);
    }

    #[test]
    fn an_empty_bucket_has_nothing() {
        let mut listing = Listing::new(String::new());
        listing.add(page("<ListVersionsResult><IsTruncated>false</IsTruncated></ListVersionsResult>"));
        assert_eq!((listing.ready.len(), listing.next), (0, None));
    }
}
