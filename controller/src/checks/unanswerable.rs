//! Why questions can never be asked, told before anybody asks: to `weir lint` and `weir migrate`, which have no cluster.

use super::metric::{LOOKS_BACK, Metric, Source, WORDS};
use super::template::Words;
use crate::api::{self, CanarySpec, MetricTemplateSpec, Object, Problem};

/// Returns why a MetricTemplate cannot be asked, whichever Canary names it.
#[must_use]
pub fn unanswerable(template: &Object<MetricTemplateSpec>) -> Option<Problem> {
    let api::Metadata { namespace, name, .. } = &template.metadata;
    let query = template.spec.query.as_deref().unwrap_or_default();
    // Those of the Canary: there is none, so each has some value.
    let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    let variables =
        query.split("variables.").skip(1).map(|rest| rest.split(|c| !is_name(c)).next().unwrap_or_default());
    let some = || "x".to_owned();
    let own = WORDS.map(|word| (word, some()));
    let words =
        Words { own: own.into(), variables: variables.map(|name| (name.to_owned(), some())).collect(), foreign: false };
    let source = Source::Template(namespace.clone(), name.clone());
    Metric { namespace: namespace.clone(), source, words }.filled_in(&template.spec).err()
}

/// Returns why metrics of a Canary cannot be asked, where their MetricTemplates are among these, or they have none. What is wrong with a
/// template whichever Canary names it is told of the template.
#[must_use]
pub fn unanswerable_metrics(canary: &Object<CanarySpec>, templates: &[Object<MetricTemplateSpec>]) -> Vec<Problem> {
    let metrics = &canary.spec.analysis.metrics;
    let told = api::asked(metrics).into_iter().filter_map(|(i, _)| {
        let metric = Metric::of(canary, &metrics[i], LOOKS_BACK);
        let at = format!("spec.analysis.metrics[{i}]");
        let (template, of) = match &metric.source {
            Source::Own(template) => (template.clone(), String::new()),
            Source::Template(namespace, name) => {
                let of_name = |it: &&Object<MetricTemplateSpec>| it.metadata.name == *name;
                // One that names no namespace gets one elsewhere, and so does a Canary.
                let here = |it: &&Object<MetricTemplateSpec>| it.metadata.namespace == *namespace;
                let found = templates.iter().filter(of_name).find(here);
                let found = found.or_else(|| {
                    let is_open = |namespace: &str| namespace == api::DEFAULT_NAMESPACE;
                    let open = |it: &&Object<MetricTemplateSpec>| is_open(&it.metadata.namespace) || is_open(namespace);
                    templates.iter().filter(of_name).find(open)
                })?;
                if unanswerable(found).is_some() {
                    return None;
                }
                (found.spec.clone(), format!("MetricTemplate {name}: "))
            }
        };
        let problem = metric.filled_in(&template).err()?;
        let field = match (&metric.source, problem.field.as_str()) {
            (Source::Own(_), "spec.provider.address") => "spec.metricsServer".to_owned(),
            (Source::Own(_), _) => format!("{at}.query"),
            (Source::Template(..), "spec.query") => format!("{at}.templateVariables"),
            (Source::Template(..), _) => format!("{at}.templateRef"),
        };
        Some(Problem::new(field, format!("{of}{}", problem.text)))
    });
    let mut told: Vec<Problem> = told.collect();
    told.dedup();
    told
}
