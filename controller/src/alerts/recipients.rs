//! Who is sent the alerts of a Canary, and why somebody is not.

use hyper::Uri;
use weir_engine::Severity;

use super::AlertSettings;
use super::message::severity;
use super::notifiers::notifier;
use crate::api::analysis::AlertSpec;
use crate::api::rules::ALERT_KINDS;
use crate::api::{AlertProviderSpec, AnalysisSpec, ObjectRef, Problem};

/// What is known of an AlertProvider.
#[derive(Clone, Debug)]
pub(crate) enum Provider {
    /// It is there.
    Found(AlertProviderSpec),
    /// It is there, and this Canary's namespace may not use it, or it cannot be read.
    Unusable(String),
    /// There is none.
    Missing,
    /// Nobody has looked yet.
    NotKnownYet,
}

/// Who is sent an alert.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipient {
    /// The AlertProvider's `namespace/name`.
    pub(crate) name: String,
    /// What it says.
    pub(crate) spec: AlertProviderSpec,
}

/// Returns who is sent the alerts of a Canary and from which severity on: by its own list, or by default. In place of somebody who
/// cannot be sent any stands why; an empty text where that is not known yet.
pub(crate) fn recipients(
    namespace: &str,
    analysis: &AnalysisSpec,
    settings: &AlertSettings,
    providers: impl Fn(&str, &str) -> Provider,
) -> Vec<(Severity, Result<Recipient, String>)> {
    let default =
        settings.provider.as_deref().and_then(|named| named.split_once('/')).map(|(namespace, name)| AlertSpec {
            name: "default".into(),
            severity: settings.severity.clone(),
            provider_ref: ObjectRef { name: name.into(), namespace: Some(namespace.into()) },
        });
    let own = !analysis.alerts.is_empty();
    let alerts = if own { analysis.alerts.as_slice() } else { default.as_slice() };
    let named = alerts.iter().enumerate().map(|(i, alert)| {
        let reference = &alert.provider_ref;
        let of = reference.namespace.as_deref().filter(|of| !of.is_empty()).unwrap_or(namespace);
        let name = format!("{of}/{}", reference.name);
        let place = if own { format!("spec.analysis.alerts[{i}] ({})", alert.name) } else { "the default".to_owned() };
        let found = match providers(of, &reference.name) {
            Provider::Found(spec) => {
                let usable = usable(&spec).map_err(|problem| problem.to_string());
                usable.map(|()| Recipient { name: name.clone(), spec })
            }
            Provider::Unusable(why) => Err(why),
            Provider::Missing => Err("there is none; add it, or correct providerRef".into()),
            Provider::NotKnownYet => return (Severity::Info, Err(String::new())),
        };
        // Another word was refused with the spec.
        let least = severity(alert.severity.as_deref()).unwrap_or(Severity::Info);
        (least, found.map_err(|why| format!("{place}: AlertProvider {name}: {why}")))
    });
    named.collect()
}

/// Says why nothing can be sent to a provider as it is written.
pub(super) fn usable(spec: &AlertProviderSpec) -> Result<(), Problem> {
    if notifier(&spec.kind).is_none() {
        let known = ALERT_KINDS.join(", ");
        return Err(Problem::new("spec.type", format!("{:?} is not known: use one of {known}", spec.kind)));
    }
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let scheme = |text: &str| text.parse::<Uri>().ok().and_then(|uri| uri.scheme_str().map(str::to_owned));
    match given(&spec.address) {
        None if spec.secret_ref.is_none() => {
            return Err(Problem::new("spec", "has neither an address nor a secretRef: give one of them"));
        }
        // Not shown: who knows it can send to it. Beside a Secret it may have no effect.
        Some(address)
            if spec.secret_ref.is_none() && !matches!(scheme(&address).as_deref(), Some("http" | "https")) =>
        {
            return Err(Problem::new("spec.address", "is no address: begin with http:// or https://"));
        }
        _ => {}
    }
    if given(&spec.proxy).is_some_and(|proxy| scheme(&proxy).as_deref() != Some("http")) {
        return Err(Problem::new("spec.proxy", "is no address of a proxy: write http://HOST:PORT"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_default_provider_is_told_by_canaries_without_alerts_of_their_own() {
        let settings = AlertSettings {
            provider: Some("ops/chat".into()),
            severity: Some("warn".into()),
            ..AlertSettings::default()
        };
        let spec: AlertProviderSpec =
            serde_json::from_value(json!({"type": "webhook", "address": "http://w/"})).unwrap();
        let told = |analysis: Value| {
            let analysis = serde_json::from_value(analysis).unwrap();
            let found = recipients("shop", &analysis, &settings, |_, _| Provider::Found(spec.clone()));
            found.into_iter().map(|(least, recipient)| (least, recipient.unwrap().name)).collect::<Vec<_>>()
        };
        assert_eq!(told(json!({})), [(Severity::Warning, "ops/chat".to_owned())]);
        let own = json!({"alerts": [{"name": "a", "providerRef": {"name": "own", "namespace": ""}}]});
        assert_eq!(told(own), [(Severity::Info, "shop/own".to_owned())]);
    }

    #[test]
    fn an_address_or_a_proxy_that_is_none_is_known_before_the_first_alert() {
        let wrong = |spec: Value| {
            let spec = serde_json::from_value(spec).unwrap();
            usable(&spec).err().map(|problem| problem.field)
        };
        for (address, proxy, field) in [
            ("https://chat/", "http://proxy:3128", None),
            ("https://chat/", "https://proxy:443", Some("spec.proxy")),
            ("https://chat/", "socks5://proxy:1080", Some("spec.proxy")),
            ("https://chat/", "proxy", Some("spec.proxy")),
            ("https://chat/", "", None),
            ("chat", "", Some("spec.address")),
            ("ftp://chat/", "", Some("spec.address")),
        ] {
            let found = wrong(json!({"type": "slack", "address": address, "proxy": proxy}));
            assert_eq!(found.as_deref(), field, "{address} {proxy}");
        }
        // The Secret's address holds then.
        assert_eq!(wrong(json!({"type": "slack", "address": "chat", "secretRef": {"name": "chat"}})), None);
    }
}
