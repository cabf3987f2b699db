//! The cookie that keeps clients on their arm, validated.

use weir_wire::Affinity;

use super::analysis::SessionAffinitySpec;
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
    } else if spec.primary_cookie_name.is_some() {
        p.remark(at("primaryCookieName"), "has no effect: the cookie of cookieName keeps clients on either arm");
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
    Affinity { cookie: spec.cookie_name.clone(), attributes }
}
