//! Options of alerts, the same for a cluster and for one machine.

use clap::Args;
use clap::builder::PossibleValuesParser;

use weir_controller::alerts::AlertSettings;

/// How alerts are sent.
#[derive(Args, Debug)]
pub(crate) struct AlertArgs {
    /// The cluster's name, which every alert shows
    #[arg(long, env = "WEIR_CLUSTER_NAME", value_name = "NAME")]
    cluster_name: Option<String>,

    /// AlertProvider of the Canaries that have no alerts of their own
    #[arg(long, env = "WEIR_ALERT_PROVIDER", value_name = "NAMESPACE/NAME", value_parser = provider)]
    alert_provider: Option<String>,

    /// Least severity that it is sent
    #[arg(long, env = "WEIR_ALERT_SEVERITY", value_name = "SEVERITY", default_value = "info",
          value_parser = PossibleValuesParser::new(["info", "warn", "error"]))]
    alert_severity: String,

    /// Address that is told every event of the Canaries that have no event webhook of their own
    #[arg(long, env = "WEIR_EVENT_WEBHOOK", value_name = "URL")]
    event_webhook: Option<String>,
}

impl AlertArgs {
    /// Returns who is told every event.
    pub(crate) fn event_webhook(&self) -> Option<String> {
        self.event_webhook.clone().filter(|url| !url.is_empty())
    }
}

impl From<AlertArgs> for AlertSettings {
    fn from(args: AlertArgs) -> Self {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Self {
            cluster: given(args.cluster_name),
            provider: given(args.alert_provider),
            severity: Some(args.alert_severity),
        }
    }
}

fn provider(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('/').collect();
    let named = parts.len() == 2 && parts.iter().all(|part| !part.is_empty());
    if text.is_empty() || named { Ok(text.to_owned()) } else { Err("write it as NAMESPACE/NAME".into()) }
}
