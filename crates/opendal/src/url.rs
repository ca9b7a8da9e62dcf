//! S3 by URL: `s3://bucket/prefix?region=eu-central-1`.

use std::borrow::Cow;

use larder_core::{Error, Result};
use opendal::layers::HttpClientLayer;
use opendal::raw::HttpClient;
use opendal::{Operator, services::S3};
use percent_encoding::percent_decode_str;

use crate::ObjectStorage;
use crate::http::TlsClient;

/// The parameters of a URL that belong to the service, and not to the cache.
pub const S3_PARAMETERS: &[&str] =
    &["access_key_id", "endpoint", "name", "region", "secret_access_key", "session_token", "shared"];

/// The storage that a URL names: `s3://bucket/prefix`, with [`S3_PARAMETERS`].
///
/// Credentials and region that the URL does not give come from the environment and the files of AWS. Without
/// `endpoint` it is AWS; an endpoint of `http:` is for servers in the same network.
///
/// # Errors
/// [`ErrorKind::Config`](larder_core::ErrorKind::Config) for a URL of another form. The message does not show the URL, which may hold a secret.
pub fn s3(url: &str) -> Result<ObjectStorage> {
    let rest = url.strip_prefix("s3://").ok_or_else(|| invalid("`s3://bucket/prefix`"))?;
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
    if bucket.is_empty() || bucket.contains('@') {
        return Err(invalid("the name of a bucket; keys are parameters or come from the environment"));
    }
    let (mut service, mut name, mut shared, mut region) = (S3::default().bucket(bucket), None, false, false);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (parameter, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value);
        service = match parameter {
            "access_key_id" => service.access_key_id(&value),
            "secret_access_key" => service.secret_access_key(&value),
            "session_token" => service.session_token(&value),
            "endpoint" => service.endpoint(&value),
            "region" => {
                region = true;
                service.region(&value)
            }
            "name" => {
                name = Some(value.into_owned());
                service
            }
            "shared" => {
                shared = matches!(&*value, "" | "true");
                service
            }
            _ => return Err(invalid(&format!("the parameters {}", S3_PARAMETERS.join(", ")))),
        };
    }
    if !region && query.contains("endpoint=") {
        // Servers other than AWS take any region; the signature needs one.
        service = service.region("us-east-1");
    }
    let operator = Operator::new(service).map_err(|error| invalid(error.message()))?;
    let operator = operator.finish().layer(HttpClientLayer::new(HttpClient::with(TlsClient::new()?)));
    let storage =
        ObjectStorage::new(name.unwrap_or_else(|| "s3".to_owned()), operator).prefix(decoded(prefix));
    Ok(if shared { storage.shared() } else { storage })
}

fn decoded(text: &str) -> Cow<'_, str> {
    percent_decode_str(text).decode_utf8().unwrap_or(Cow::Borrowed(text))
}

fn invalid(allowed: &str) -> Error {
    Error::config("url", "an `s3:` URL", allowed)
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn urls_of_another_form_are_refused_without_showing_them() {
        for url in ["s3:bucket", "s3://", "s3:///prefix", "s3://key:secret@bucket/a", "s3://bucket?secret=1"]
        {
            let error = s3(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{url}");
            assert!(!error.to_string().contains("secret@"), "{error}");
        }
        assert!(s3("s3://bucket/a/b?region=eu-central-1&name=s3-eu&shared").is_ok());
    }
}
