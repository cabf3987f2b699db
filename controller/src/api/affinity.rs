//! The cookie that keeps clients on their arm, validated.

use weir_wire::Affinity;

use super::analysis::{AnalysisSpec, SessionAffinitySpec};
use super::limits;
use super::problem::Problems;
use super::strategy;

/// Returns the cookie and its attributes.
pub(super) fn cookie(spec: &SessionAffinitySpec, p: &mut Problems) -> Affinity {
    let at = |field: &str| format!("spec.analysis.sessionAffinity.{field}");
    if !strategy::is_token(&spec.cookie_name) {
        p.add(at("cookieName"), format!("{:?} is not the name of a cookie", spec.cookie_name));
    }
    if spec.primary_cookie_name.as_ref() == Some(&spec.cookie_name) {
        p.add(at("primaryCookieName"), "is the same as cookieName: remove it, one cookie serves both arms");
    }
    let primary_cookie = spec.primary_cookie_name.as_ref().filter(|name| !name.is_empty());
    if let Some(name) = primary_cookie.filter(|name| **name != spec.cookie_name) {
        if !strategy::is_token(name) {
            p.add(at("primaryCookieName"), format!("{name:?} is not the name of a cookie"));
        }
        limits::count(p, at("primaryCookieName"), "bytes", name.len(), limits::COOKIE);
    }
    let max_age = p.whole(&at("maxAge"), spec.max_age, 86_400, 1..=34_560_000);
    let mut attributes = format!("; Max-Age={max_age}");
    for (field, name, value) in
        [("domain", "Domain", spec.domain.as_deref()), ("path", "Path", spec.path.as_deref().or(Some("/")))]
    {
        let Some(value) = value else { continue };
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic() && !b";,".contains(&byte)) {
            p.add(at(field), format!("{value:?} cannot stand in a cookie: leave out spaces, commas and semicolons"));
        }
        attributes += &format!("; {name}={value}");
    }
    let secure = spec.secure == Some(true);
    for (name, given) in [("HttpOnly", spec.http_only), ("Secure", spec.secure), ("Partitioned", spec.partitioned)] {
        if given == Some(true) {
            attributes += &format!("; {name}");
        }
    }
    if spec.partitioned == Some(true) && !secure {
        p.remark(at("partitioned"), "needs secure: true: browsers refuse the cookie without it");
    }
    match spec.same_site.as_deref() {
        None | Some("") => {}
        Some(site @ ("Strict" | "Lax" | "None")) => {
            if site == "None" && !secure {
                p.remark(at("sameSite"), "None needs secure: true: browsers refuse the cookie without it");
            }
            attributes += &format!("; SameSite={site}");
        }
        Some(other) => p.add(at("sameSite"), format!("{other:?} is not known: use Strict, Lax or None")),
    }
    limits::count(p, at("path"), "bytes with the cookie's other attributes", attributes.len(), limits::ATTRIBUTES);
    limits::count(p, at("cookieName"), "bytes", spec.cookie_name.len(), limits::COOKIE);
    Affinity { cookie: spec.cookie_name.clone(), attributes, primary_cookie: primary_cookie.cloned() }
}

/// What a client's cookie is once no rollout is under way.
const ENDED: &str = "ended";

/// Cookies that a route ends where clients bring them and no rollout is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EndedCookies {
    /// A regular expression that the `cookie` header of such a client matches as a whole.
    pub(crate) pattern: String,
    /// What ends them: a value of `set-cookie` for each.
    pub(crate) endings: [String; 2],
}

impl EndedCookies {
    /// Returns the cookies of a Canary whose primary has one of its own; without one the cookie stays, and every run draws anew.
    #[must_use]
    pub(crate) fn of(spec: &AnalysisSpec) -> Option<Self> {
        let Affinity { cookie, attributes, primary_cookie } =
            self::cookie(spec.session_affinity.as_ref()?, &mut Problems::new());
        let names = [cookie, primary_cookie?];
        // The first attribute is the age; a client drops a cookie by its name, domain and path.
        let others = attributes.get(2..).and_then(|rest| rest.split_once(';')).map_or("", |(_, others)| others);
        let endings = names.each_ref().map(|name| format!("{name}={ENDED}; Max-Age=-1;{others}"));
        let [a, b] = names.map(|name| regex_lite::escape(&name));
        Some(Self { pattern: format!("(.*; *)?({a}|{b})=.*"), endings })
    }

    /// Returns the cookie that clients of the canary are left with, as the status says it.
    #[must_use]
    pub(crate) fn previous(&self) -> &str {
        self.endings[0].split(';').next().unwrap_or_default()
    }
}
