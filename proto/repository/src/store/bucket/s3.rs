//! S3: how it is reached, and what only it can be asked.
//!
//! The driver knows objects. Of locks and versions it knows nothing, but it signs the address of any request;
//! [`S3::ask`] sends it.

use std::{env, fmt, fs, io, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::{
    ObjectStore,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut},
    client::{HttpClient, HttpConnector, ReqwestConnector},
    path::Path as ObjectPath,
    signer::{SignedUrlOptions, Signer},
};
use url::Url;

use super::{BucketAddress, StoreCause, client_options, retries};
use crate::{Sha256Digest, store::LockMode};

/// For how long the signature of a request is good.
const SIGNED_FOR: Duration = Duration::from_secs(300);

/// A page of a listing: 1000 names of up to 1024 bytes, escaped, with all that is said of each.
const MAX_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// The header that says what the body of a request is.
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// One bucket of it.
#[derive(Clone)]
pub(super) struct S3 {
    driver: AmazonS3,
    connections: HttpClient,
    pub(super) lock_mode: LockMode,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Whether the error is the one of that name.
    pub(super) fn is_error(&self, code: &str) -> bool {
        !self.is_success() && String::from_utf8_lossy(&self.body).contains(&format!("<Code>{code}</Code>"))
    }
}

/// In the words of the driver, so that both are understood in one place.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server returned status code: {}: {}", self.status, String::from_utf8_lossy(&self.body).trim())
    }
}

impl S3 {
    pub(super) fn open(address: &BucketAddress) -> Result<Self, StoreCause> {
        Self::with(with_credentials()?, address)
    }

    /// The same, by a builder that has its credentials.
    pub(super) fn with(builder: AmazonS3Builder, address: &BucketAddress) -> Result<Self, StoreCause> {
        Ok(Self {
            driver: configured(builder, address)?.build()?,
            connections: ReqwestConnector::default().connect(&client_options(address))?,
            lock_mode: address.options.lock.map(|lock| lock.mode).unwrap_or_default(),
        })
    }

    pub(super) fn driver(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.driver.clone())
    }

    /// Asks for what the driver has no call for, of an object, or with an empty path of the bucket.
    pub(super) async fn ask(
        &self,
        method: &str,
        object: &ObjectPath,
        query: &[(&str, &str)],
        body: String,
    ) -> Result<Answer, StoreCause> {
        let mut options = SignedUrlOptions::default().with_query(query.iter().copied());
        if !body.is_empty() {
            // A lock must come with a checksum. It is part of what is signed, and so then is the body.
            let checksum = BASE64.encode(Sha256Digest::of(body.as_bytes()).as_bytes());
            options = options.with_signed_header(CHECKSUM.parse()?, checksum.parse()?);
        }
        let url = self.driver.signed_url_opts(method.parse()?, object, SIGNED_FOR, &options).await?;
        let mut request = http::Request::builder().method(method).uri(url.as_str());
        for (name, value) in &options.signed_headers {
            request = request.header(name, value);
        }
        let answer = self.connections.execute(request.body(body.into())?).await?;
        let status = answer.status().as_u16();
        let mut chunks = answer.into_body().bytes_stream();
        let mut body = Vec::new();
        while let Some(chunk) = chunks.try_next().await? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(format!("an answer of more than {MAX_ANSWER_BYTES} bytes").into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body: body.into() })
    }
}

fn with_credentials() -> Result<AmazonS3Builder, StoreCause> {
    let mut builder = AmazonS3Builder::from_env();
    let is_set = |variable: &str| env::var_os(variable).is_some_and(|value| !value.is_empty());
    if !is_set("AWS_ACCESS_KEY_ID")
        && let Some(keys) = shared_credentials()?
    {
        builder = builder.with_access_key_id(keys.id).with_secret_access_key(keys.secret);
        if let Some(token) = keys.token {
            builder = builder.with_token(token);
        }
    }
    Ok(builder)
}

fn configured(builder: AmazonS3Builder, address: &BucketAddress) -> Result<AmazonS3Builder, StoreCause> {
    let options = &address.options;
    let mut builder = builder
        .with_bucket_name(&address.bucket)
        .with_client_options(client_options(address))
        .with_retry(retries())
        // Not every server that speaks S3 knows how to delete several objects at once.
        .with_disable_bulk_delete(true)
        .with_conditional_put(match options.no_conditional_put {
            true => S3ConditionalPut::Disabled,
            false => S3ConditionalPut::ETagMatch,
        });
    if options.lock.is_some() {
        // What is put into a bucket that locks by itself must come with one.
        builder = builder.with_checksum_algorithm(Checksum::SHA256);
    }
    if let Some(endpoint) = &options.endpoint {
        let path_style = options.path_style.unwrap_or(true);
        let endpoint = if path_style { endpoint.clone() } else { endpoint_of_bucket(endpoint, &address.bucket)? };
        // The most particular one, so that no variable of the environment overrules the address.
        builder =
            builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint).with_virtual_hosted_style_request(!path_style);
    } else if let Some(path_style) = options.path_style {
        builder = builder.with_virtual_hosted_style_request(!path_style);
    }
    if let Some(region) = &options.region {
        builder = builder.with_region(region);
    }
    if let Some(encryption) = &options.encryption {
        builder = match encryption.strip_prefix("aws:kms:") {
            Some(key) => builder.with_sse_kms_encryption(key),
            None => {
                builder.with_config(AmazonS3ConfigKey::from_str("aws_server_side_encryption")?, encryption.as_str())
            }
        };
    }
    Ok(builder)
}

/// `https://bucket.host`: with the bucket in the host's name, the driver leaves its name to whoever names the host.
fn endpoint_of_bucket(endpoint: &str, bucket: &str) -> Result<String, StoreCause> {
    let mut url = Url::parse(endpoint)?;
    let host = url.domain().ok_or("with path_style=no the endpoint is a name, to which that of the bucket is added")?;
    if !host.starts_with(&format!("{bucket}.")) {
        let host = format!("{bucket}.{host}");
        url.set_host(Some(&host))?;
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// An access key of S3.
struct AccessKey {
    id: String,
    secret: String,
    token: Option<String>,
}

/// The key in the file that the service's own tools use; `None` if there is no such file or profile.
fn shared_credentials() -> Result<Option<AccessKey>, StoreCause> {
    let path = env::var_os("AWS_SHARED_CREDENTIALS_FILE")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| PathBuf::from(home).join(".aws/credentials")));
    let Some(path) = path else { return Ok(None) };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read credentials from {}: {error}", path.display()).into()),
    };
    let profile = env::var("AWS_PROFILE").unwrap_or_else(|_| "default".to_owned());
    Ok(key_of_profile(&text, &profile))
}

fn key_of_profile(text: &str, profile: &str) -> Option<AccessKey> {
    let section = text
        .lines()
        .map(str::trim)
        .skip_while(|line| {
            line.strip_prefix('[').and_then(|line| line.strip_suffix(']')).map(str::trim) != Some(profile)
        })
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    let (mut id, mut secret, mut token) = (None, None, None);
    for (name, value) in section.filter_map(|line| line.split_once('=')) {
        let value = Some(value.trim().to_owned());
        match name.trim() {
            "aws_access_key_id" => id = value,
            "aws_secret_access_key" => secret = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    Some(AccessKey { id: id?, secret: secret?, token })
}

#[cfg(test)]
impl S3 {
    /// Where it asks for an object.
    pub(super) async fn url_of(&self, object: &ObjectPath) -> String {
        let signed = self.driver.signed_url("GET".parse().expect("a method"), object, SIGNED_FOR).await;
        let mut url = signed.expect("signed");
        url.set_query(None);
        url.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_credentials_file_is_understood() {
        let file = "# keys\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[ backup ]\n\
                    aws_access_key_id=C\naws_secret_access_key = D\naws_session_token = E\nregion = x\n[half]\n\
                    aws_access_key_id = F\n";
        let key = |profile: &str| key_of_profile(file, profile).map(|key| (key.id, key.secret, key.token));
        let text = str::to_owned;
        assert_eq!(key("default"), Some((text("A"), text("B="), None)));
        assert_eq!(key("backup"), Some((text("C"), text("D"), Some(text("E")))));
        assert_eq!(key("half"), None);
        assert_eq!(key("other"), None);
    }
}
