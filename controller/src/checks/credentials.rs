//! Credentials of a query, from a Secret of the template's own namespace, as Flagger has them: `token`, or `username` and `password`.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;

/// Returns the header `authorization` for what is in a Secret.
///
/// # Errors
/// What is missing.
pub(super) fn authorization(content: &BTreeMap<String, String>) -> Result<HeaderValue, String> {
    // A file's last line break is in many a Secret.
    let part = |key: &str| content.get(key).map(|value| value.trim_end_matches(['\r', '\n']));
    let text = match (part("token"), part("username"), part("password")) {
        (Some(token), ..) => format!("Bearer {token}"),
        (None, Some(name), Some(password)) => format!("Basic {}", STANDARD.encode(format!("{name}:{password}"))),
        _ => return Err("it has neither token nor username and password".into()),
    };
    let mut value: HeaderValue = text.parse().map_err(|_| "its token is no value of a header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(content: &[(&str, &str)]) -> Result<String, String> {
        let content = content.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        authorization(&content).map(|value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_token_goes_before_a_name_and_what_is_missing_is_said() {
        assert_eq!(header(&[("token", "abc\n")]).unwrap(), "Bearer abc");
        assert_eq!(header(&[("username", "me"), ("password", "secret")]).unwrap(), "Basic bWU6c2VjcmV0");
        assert_eq!(header(&[("token", "t"), ("username", "me"), ("password", "secret")]).unwrap(), "Bearer t");
        assert!(header(&[("username", "me")]).unwrap_err().contains("neither token nor username and password"));
        assert!(header(&[("token", "a\nb")]).unwrap_err().contains("no value of a header"));
    }
}
