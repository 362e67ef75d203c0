//! Where a repository is, as a person writes it: `file:///backup/redis`, `s3://bucket/prefix?region=…`.

mod options;

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use thiserror::Error;
use url::Url;
use urtext_types::{ErrorKind, Explain};

pub use self::options::BucketOptions;
use super::{BucketStore, DirectoryStore, FirstVersions, Lock, LockStore, Store, StoreError, SweepStore};

/// The place of a repository. Parsed once; holds no secrets.
///
/// ```text
/// /backup/redis                        a directory
/// file:///backup/redis                 the same
/// s3://bucket/prefix                   S3, and everything that speaks it
/// gs://bucket/prefix                   Google Cloud Storage
/// az://container/prefix                Azure Blob Storage
/// ```
///
/// Options follow a question mark: `s3://bucket/prefix?endpoint=https://minio.example.com&region=eu-1`.
/// Credentials never stand in an address: they come from the usual environment and files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// A directory; a relative path means what the reader of the address says.
    Directory(PathBuf),
    Bucket(BucketAddress),
}

/// A bucket, with all that is needed to reach it but credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketAddress {
    pub service: Service,
    /// Azure calls it container.
    pub bucket: String,
    /// Without slashes at its ends; empty for the whole bucket.
    pub prefix: String,
    pub options: BucketOptions,
}

/// What a bucket speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    S3,
    Gcs,
    Azure,
}

/// Text that names no place for a repository.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidAddress {
    #[error("{address:?} is no place for a repository: {problem}")]
    Malformed { address: String, problem: String },
    #[error("{address:?} is no place for a repository: there is no option {option:?} for {service}")]
    UnknownOption { address: String, option: String, service: Service },
    // The address itself is not shown: it holds a secret.
    #[error("the address of a repository must not hold credentials")]
    Credentials,
}

impl Explain for InvalidAddress {
    fn kind(&self) -> ErrorKind {
        ErrorKind::Usage
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Malformed { .. } => {
                "write an absolute path, file:///path, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"
                    .to_owned()
            }
            Self::UnknownOption { service, .. } => format!("{service} has: {}", service.options().join(", ")),
            Self::Credentials => "they come from the environment (AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, \
                                  AZURE_STORAGE_ACCOUNT_KEY, …) or from the service's usual files"
                .to_owned(),
        })
    }
}

impl Service {
    fn of_scheme(scheme: &str) -> Option<Self> {
        Some(match scheme {
            "s3" => Self::S3,
            "gs" => Self::Gcs,
            "az" => Self::Azure,
            _ => return None,
        })
    }

    fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Gcs => "gs",
            Self::Azure => "az",
        }
    }

    fn options(self) -> &'static [&'static str] {
        match self {
            Self::S3 => &[
                "endpoint",
                "region",
                "path_style",
                "storage_class",
                "encryption",
                "conditional_put",
                "lock",
                "lock_mode",
                "versions",
            ],
            Self::Gcs => &["endpoint", "storage_class"],
            Self::Azure => &["endpoint", "account", "storage_class"],
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::S3 => "S3",
            Self::Gcs => "Google Cloud Storage",
            Self::Azure => "Azure Blob Storage",
        })
    }
}

impl StoreAddress {
    /// The same place, where a relative path means one below `folder`.
    pub fn relative_to(self, folder: &Path) -> Self {
        match self {
            Self::Directory(path) => Self::Directory(folder.join(path)),
            bucket @ Self::Bucket(_) => bucket,
        }
    }

    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match self {
            Self::Directory(path) => Some(path),
            Self::Bucket(_) => None,
        }
    }

    /// Prepares to use the place. A directory must be there; a bucket is not asked yet.
    pub fn open(&self) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Directory(path) => Arc::new(DirectoryStore::open(path)?),
            Self::Bucket(address) if address.options.first_versions => {
                Arc::new(FirstVersions::of(BucketStore::open(address)?))
            }
            Self::Bucket(address) => Arc::new(BucketStore::open(address)?),
        })
    }

    /// The same, and a directory is made if it is not there. A bucket never is: who pays for it makes it.
    pub fn create(&self) -> Result<Arc<dyn Store>, StoreError> {
        match self {
            Self::Directory(path) => Ok(Arc::new(DirectoryStore::create(path)?)),
            Self::Bucket(_) => self.open(),
        }
    }

    /// Whether it shows what was, and takes nothing.
    pub fn is_for_reading_only(&self) -> bool {
        matches!(self, Self::Bucket(address) if address.options.first_versions)
    }

    /// How what is stored there is locked, if it is.
    pub fn lock(&self) -> Option<Lock> {
        match self {
            Self::Directory(_) => None,
            Self::Bucket(address) => address.options.lock,
        }
    }

    /// Prepares to lock what is stored there; `None` if it is not to be locked.
    pub fn open_to_lock(&self) -> Result<Option<Arc<dyn LockStore>>, StoreError> {
        Ok(match self {
            Self::Bucket(address) if address.options.lock.is_some() => Some(Arc::new(BucketStore::open(address)?)),
            Self::Bucket(_) | Self::Directory(_) => None,
        })
    }

    /// Prepares to use the place, and to delete in it.
    pub fn open_to_sweep(&self) -> Result<Arc<dyn SweepStore>, StoreError> {
        Ok(match self {
            Self::Directory(path) => Arc::new(DirectoryStore::open(path)?),
            Self::Bucket(address) => Arc::new(BucketStore::open(address)?),
        })
    }
}

impl FromStr for StoreAddress {
    type Err = InvalidAddress;

    fn from_str(address: &str) -> Result<Self, Self::Err> {
        let malformed =
            |problem: &str| InvalidAddress::Malformed { address: address.to_owned(), problem: problem.to_owned() };
        let Some((scheme, rest)) = address.split_once("://") else {
            return if address.is_empty() {
                Err(malformed("it is empty"))
            } else {
                Ok(Self::Directory(PathBuf::from(address)))
            };
        };
        if scheme == "file" {
            return if rest.starts_with('/') {
                Ok(Self::Directory(PathBuf::from(rest)))
            } else {
                Err(malformed("a file:// address is an absolute path with three slashes, file:///path"))
            };
        }
        let Some(service) = Service::of_scheme(scheme) else {
            return Err(malformed(&format!("nothing is known of {scheme}://")));
        };
        let url = Url::parse(address).map_err(|error| malformed(&error.to_string()))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidAddress::Credentials);
        }
        if url.port().is_some() {
            return Err(malformed("a bucket has no port: name the server with ?endpoint=http://host:port"));
        }
        if url.fragment().is_some() {
            return Err(malformed("a bucket has no #fragment"));
        }
        let bucket = url.host_str().unwrap_or_default();
        if bucket.is_empty() {
            return Err(malformed("it names no bucket"));
        }
        let prefix = url.path().trim_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_segment =
            |segment: &str| !segment.is_empty() && !segment.starts_with('.') && segment.chars().all(is_plain);
        if !prefix.is_empty() && !prefix.split('/').all(is_segment) {
            return Err(malformed("its prefix may hold letters, digits and . _ - between single slashes"));
        }
        let options = BucketOptions::parse(address, service, &url)?;
        Ok(Self::Bucket(BucketAddress { service, bucket: bucket.to_owned(), prefix: prefix.to_owned(), options }))
    }
}

/// As it is written in messages: without options.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "{}", path.display()),
            Self::Bucket(bucket) => bucket.fmt(f),
        }
    }
}

impl fmt::Display for BucketAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, bucket, prefix, options } = self;
        write!(f, "{}://{bucket}", service.scheme())?;
        if !prefix.is_empty() {
            write!(f, "/{prefix}")?;
        }
        match &options.endpoint {
            Some(endpoint) => write!(f, " at {endpoint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::store::LockMode;

    fn bucket(address: &str) -> BucketAddress {
        match address.parse() {
            Ok(StoreAddress::Bucket(bucket)) => bucket,
            other => panic!("{address} is {other:?}"),
        }
    }

    #[test]
    fn a_directory_is_a_path_or_a_file_url() {
        for (address, path) in [("/backup/redis", "/backup/redis"), ("repository", "repository"), ("file:///b", "/b")] {
            assert_eq!(address.parse(), Ok(StoreAddress::Directory(PathBuf::from(path))));
        }
    }

    #[test]
    fn a_bucket_has_a_prefix_and_options() {
        let plain = bucket("s3://backups");
        assert_eq!((plain.service, &*plain.bucket, &*plain.prefix), (Service::S3, "backups", ""));
        assert_eq!(plain.options, BucketOptions::default());
        let rich = bucket(
            "s3://backups/redis/fra?endpoint=http://127.0.0.1:9000&region=eu-1&path_style=no&storage_class=STANDARD_IA\
             &encryption=aws:kms:arn&conditional_put=no",
        );
        assert_eq!(rich.prefix, "redis/fra");
        assert_eq!(
            rich.options,
            BucketOptions {
                endpoint: Some("http://127.0.0.1:9000".to_owned()),
                region: Some("eu-1".to_owned()),
                path_style: Some(false),
                storage_class: Some("STANDARD_IA".to_owned()),
                encryption: Some("aws:kms:arn".to_owned()),
                account: None,
                no_conditional_put: true,
                lock: None,
                first_versions: false,
            }
        );
        let week = |mode| Some(Lock { period: Duration::from_secs(7 * 24 * 3600), mode });
        assert_eq!(bucket("s3://b?lock=7d").options.lock, week(LockMode::Governance));
        assert_eq!(bucket("s3://b?lock=1week&lock_mode=compliance").options.lock, week(LockMode::Compliance));
        assert!(bucket("s3://b?versions=first").options.first_versions);
        assert_eq!(rich.to_string(), "s3://backups/redis/fra at http://127.0.0.1:9000");
        assert_eq!(bucket("gs://b/p/").prefix, "p");
        let emulator = bucket("az://b?endpoint=http://127.0.0.1:10000/devstoreaccount1/").options.endpoint;
        assert_eq!(emulator.as_deref(), Some("http://127.0.0.1:10000/devstoreaccount1"));
        assert_eq!(bucket("az://container?account=acme").options.account.as_deref(), Some("acme"));
    }

    #[track_caller]
    fn check_refused(address: &str, expect: &str) {
        let error = address.parse::<StoreAddress>().expect_err("refused");
        assert!(error.to_string().contains(expect), "{error}");
        assert_eq!(error.kind(), ErrorKind::Usage);
    }

    #[test]
    fn what_is_no_place_is_refused_with_the_reason() {
        check_refused("", "it is empty");
        check_refused("file://backup", "three slashes");
        check_refused("ftp://host/backup", "nothing is known of ftp://");
        check_refused("s3://", "");
        check_refused("s3:///prefix", "");
        check_refused("s3://bucket:9000/prefix", "endpoint=http://host:port");
        check_refused("s3://bucket/a//b", "single slashes");
        check_refused("s3://bucket/a/../b?x=1", "no option \"x\"");
        check_refused("s3://bucket/%2e%2e/b/.hidden", "prefix");
        check_refused("s3://bucket?path_style=perhaps", "path_style is yes or no");
        check_refused("s3://bucket?region=a&region=b", "stands twice");
        check_refused("s3://bucket?region=", "has no value");
        check_refused("s3://bucket?endpoint=127.0.0.1:9000", "endpoint");
        check_refused("s3://bucket?encryption=rot13", "encryption");
        check_refused("s3://bucket?lock=long", "\"long\" is not a duration");
        check_refused("s3://bucket?lock=1h", "at least 1 day");
        check_refused("s3://bucket?lock=101years", "at most 100 years");
        check_refused("s3://bucket?lock=7d&lock_mode=firm", "governance or compliance");
        check_refused("s3://bucket?lock_mode=compliance", "nothing without lock");
        check_refused("s3://bucket?versions=all", "versions is first");
        check_refused("s3://bucket?versions=first&lock=7d", "for reading only");
        check_refused("gs://bucket?lock=7d", "no option \"lock\" for Google Cloud Storage");
        check_refused("gs://bucket?region=eu", "no option \"region\" for Google Cloud Storage");
    }

    #[test]
    fn secrets_are_refused_and_not_repeated() {
        for address in
            ["s3://key:hunter2@bucket", "s3://bucket?secret_access_key=hunter2", "s3://b?endpoint=http://u:hunter2@h"]
        {
            let error = address.parse::<StoreAddress>().expect_err("refused");
            assert_eq!(error, InvalidAddress::Credentials);
            assert!(!format!("{error} {error:?}").contains("hunter2"));
        }
    }
}
