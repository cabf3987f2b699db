//! A Secret of Kubernetes in a folder of YAML files: what an AlertProvider names, so that a manifest needs no other form there.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::ByteString;
use serde::Deserialize;

use super::object::Metadata;

/// A Secret.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub struct Secret {
    /// Who it is.
    pub metadata: Metadata,
    /// What is in it, as far as it is text.
    pub content: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, ByteString>,
    #[serde(default)]
    string_data: BTreeMap<String, String>,
}

impl From<Written> for Secret {
    fn from(Written { metadata, data, string_data }: Written) -> Self {
        let text = |(key, value): (String, ByteString)| Some((key, String::from_utf8(value.0).ok()?));
        let content = data.into_iter().filter_map(text).chain(string_data).collect();
        Self { metadata, content }
    }
}

impl fmt::Debug for Secret {
    /// Says who it is, and not what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret {}/{}", self.metadata.namespace, self.metadata.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_in_both_its_forms_and_never_shown() {
        let text = "metadata: {name: chat}\ndata: {token: eG94Yi0x}\nstringData: {address: 'http://chat/hook'}\n";
        let secret: Secret = serde_saphyr::from_str(text).unwrap();
        assert_eq!(secret.content["token"], "xoxb-1");
        assert_eq!(secret.content["address"], "http://chat/hook");
        assert_eq!(format!("{secret:?}"), "Secret default/chat");
    }
}
