//! The filter's configuration, as the controller writes it: one for each gateway workload, JSON.
//!
//! These are the raw types. [`Config::parse`] is the way in for a reader: it refuses what cannot work and names the field.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::Weight;

/// The version of the configuration's meaning. A filter refuses any other.
pub const VERSION: u32 = 1;

/// Most edges that a latency histogram may have.
pub const MAX_LATENCY_EDGES: usize = 30;

/// Canary requests that may be outstanding per worker until the first ones of a run have ended, unless told otherwise.
pub const ADMISSION: u32 = 10;

/// What one gateway workload needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// [`VERSION`].
    pub version: u32,
    /// Grows with every push; a filter refuses an older one. At least the Unix time in milliseconds when it was made.
    pub generation: u64,
    /// Unix time in seconds. A gateway process that starts later than this, with this configuration, sends nothing to a canary.
    pub armed_until: u64,
    /// Unix time in seconds. From then on a process that has got nothing newer sends nothing to a canary, however long it has
    /// run: whoever renews this has been away for too long. 0: never.
    #[serde(default, skip_serializing_if = "is_default")]
    pub expires_at: u64,
    /// The canaries of this gateway, idle ones included.
    #[serde(default)]
    pub canaries: Vec<Canary>,
}

/// One canary: how to find its requests, how many of them go to it, and when to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// 16 lower-case hex digits; part of every metric's name.
    pub id: String,
    /// `namespace/name`, for people.
    pub name: String,
    /// `shop.example.com`, `*.example.com` or `*`, without port; compared without case.
    #[serde(default)]
    pub hosts: Vec<String>,
    /// Route names, compared when `lookup` is `route`.
    #[serde(default)]
    pub routes: Vec<String>,
    /// How a request finds this canary.
    #[serde(default)]
    pub lookup: Lookup,
    /// Value of [`crate::TOKEN_HEADER`] on requests to the canary.
    pub token: String,
    /// The rollout that this configuration belongs to; empty between rollouts. A guard's trip is latched for a run.
    #[serde(default)]
    pub run: String,
    /// The stretch of one weight that requests are counted under. Grows for the life of the canary.
    pub epoch: u64,
    /// Share of drawn requests for the canary, in 1/10,000.
    pub weight: Weight,
    /// Requests that meet any of these go to the canary whatever the weight.
    #[serde(default, rename = "match")]
    pub conditions: Vec<Condition>,
    /// Splits the requests that meet a condition, and those only. `weight` and `match` are empty beside it, so that a filter of
    /// before this field ([`crate::names::LEVEL`]) sends nothing to the canary, and not everybody's requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<MatchedSplit>,
    /// Hosts whose requests go to the canary whatever the weight, and are counted as [`crate::names::Cohort::Direct`]: names of
    /// the canary's own Service, which load tests call. Exact, without port, and among this canary's requests only. What comes by
    /// [`crate::names::direct_route`] is such a request whatever its host. A filter of before this field ([`crate::names::LEVEL`])
    /// knows none of them: to it they are requests like all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub direct: Vec<String>,
    /// Keeps a client on the arm that it was first drawn to.
    #[serde(default)]
    pub affinity: Option<Affinity>,
    /// Upper edges of the latency histogram in milliseconds, increasing. The rest is counted above the last.
    #[serde(default)]
    pub latency_ms: Vec<u32>,
    /// Canary requests that may be outstanding per worker until as many of the run have ended. 0: no bound.
    #[serde(default = "admission")]
    pub admission: u32,
    /// Whether this canary serves because the primary cannot. Neither `armed_until` nor `expires_at` takes its requests.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fallback: bool,
    /// The guard's tables, newest epoch first. An epoch without a table is not guarded.
    #[serde(default)]
    pub limits: Vec<Limits>,
    /// How many canary requests of the run may fail in one process that the controller has not seen. When so many have, the process sends
    /// no more to the canary until `seen` names them. Then it judges by no table: many processes that each have a limit of their own
    /// would need higher ones the more they are. 0: no bound. A filter of before this field ([`crate::names::LEVEL`]) knows its
    /// tables alone.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lease: u32,
    /// What the controller has seen: `[weir_boot, weir_<id>_held]` of processes that waited for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<[u64; 2]>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn admission() -> u32 {
    ADMISSION
}

/// How a request finds its canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lookup {
    /// By `:authority` alone: the canary owns its hosts on this gateway.
    #[default]
    Host,
    /// By the name of the route that the gateway chose, read only for requests whose host is in `hosts` (if any are given).
    Route,
}

/// A split of the requests that meet a condition. All others are the primary's, and no draws.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedSplit {
    /// Share of them for the canary, in 1/10,000.
    pub weight: Weight,
    /// Those that meet any of these.
    #[serde(rename = "match")]
    pub conditions: Vec<Condition>,
}

/// Header, cookie and query conditions, all of which must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// By lower-case header name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, StringMatch>,
    /// By cookie name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<String, StringMatch>,
    /// By name of the query parameter.
    #[serde(default, rename = "queryParams", skip_serializing_if = "BTreeMap::is_empty")]
    pub query_params: BTreeMap<String, StringMatch>,
}

/// Istio's `StringMatch`: a regular expression must match the whole value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StringMatch {
    /// The whole value.
    Exact(String),
    /// The value's beginning.
    Prefix(String),
    /// The value's end.
    Suffix(String),
    /// RE2 syntax, anchored at both ends.
    Regex(String),
}

/// A cookie that keeps a client on one arm, true to the weight.
///
/// The cookie holds a random number. Mixed with the run it gives the client a place from 0 to 9,999, and places below the
/// weight belong to the canary: clients move one way as the weight rises, and every run draws anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Affinity {
    /// The cookie's name.
    pub cookie: String,
    /// Appended to the cookie as it stands, for instance `; Max-Age=86400; Path=/`.
    #[serde(default)]
    pub attributes: String,
    /// Name of the cookie that clients of the primary get; `cookie` where there is none. With it a route ends both cookies at rest, so
    /// requests that bring one get [`crate::KEPT`] while clients are kept. A filter of before this field gives `cookie` to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_cookie: Option<String>,
}

/// The guard's integer tables for one epoch, as exact functions of the evidence (`limit` = least count that is a verdict).
///
/// A row `[from, limit]` holds for counts of at least `from`, up to the next row; the last one up to `end`. Beyond it the
/// table goes on as the lowest of some lines, none of which is ever below the least count that is a verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The epoch whose failures these tables judge.
    pub epoch: u64,
    /// Failed draws on the primary → failed draws on the canary that trip.
    #[serde(default)]
    pub comparison: Vec<[u32; 2]>,
    /// Completed canary requests of every cohort → failed ones that trip.
    #[serde(default)]
    pub absolute: Vec<[u32; 2]>,
    /// Last count that `comparison` and `absolute` are stated for.
    #[serde(default)]
    pub end: [u32; 2],
    /// The lines by which `comparison` and `absolute` go on beyond their `end`: `[limit there, what it grows by in 65,536
    /// counts]`. None, as an older controller writes it: the table ends.
    #[serde(default, skip_serializing_if = "is_default")]
    pub beyond: [Vec<[u32; 2]>; 2],
}

/// Counts in which a line of [`Limits::beyond`] grows by its second number.
pub const LINE: u32 = 1 << 16;

impl Limits {
    /// Returns how many failed draws of the canary are a verdict where so many of the primary have failed.
    #[must_use]
    pub fn comparison_limit(&self, primary_failures: u32) -> Option<u32> {
        Self::limit(&self.comparison, self.end[0], &self.beyond[0], primary_failures)
    }

    /// Returns how many failed canary requests are a verdict among so many that have ended.
    #[must_use]
    pub fn absolute_limit(&self, completed: u32) -> Option<u32> {
        Self::limit(&self.absolute, self.end[1], &self.beyond[1], completed)
    }

    /// Returns the limit that a table states for `count`; nothing below its first row.
    #[must_use]
    pub fn limit(rows: &[[u32; 2]], end: u32, beyond: &[[u32; 2]], count: u32) -> Option<u32> {
        if count <= end {
            return rows[..rows.partition_point(|row| row[0] <= count)].last().map(|row| row[1]);
        }
        let at = |[base, growth]: &[u32; 2]| {
            let grown = (u64::from(count - end) * u64::from(*growth)).div_ceil(u64::from(LINE));
            u32::try_from(u64::from(*base) + grown).unwrap_or(u32::MAX)
        };
        beyond.iter().map(at).min()
    }
}

/// A configuration that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or a field of another type.
    #[error("configuration does not parse: {0}")]
    Syntax(serde_json::Error),
    /// Written for another filter.
    #[error("version: {found} is not known to this filter, which reads version {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
    /// A field's value is of no use.
    #[error("canaries[{index}] ({name}): {field}: {problem}")]
    Field {
        /// Place in the list.
        index: usize,
        /// The canary's name.
        name: String,
        /// The field's path.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

impl Config {
    /// Reads a configuration and checks all that can be checked without a filter.
    ///
    /// # Errors
    /// When it does not parse or cannot work; the error names the field.
    pub fn parse(json: &[u8]) -> Result<Self, ConfigError> {
        // The version first: another version may have other types in every other field.
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_slice(json).map_err(ConfigError::Syntax)?;
        if version != VERSION {
            return Err(ConfigError::Version { found: version });
        }
        let config: Self = serde_json::from_slice(json).map_err(ConfigError::Syntax)?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the first field that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (mut ids, mut hosts, mut routes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (index, canary) in self.canaries.iter().enumerate() {
            let fail = |field: String, problem: String| {
                Err(ConfigError::Field { index, name: canary.name.clone(), field, problem })
            };
            if let Err((field, problem)) = canary.check() {
                return fail(field, problem);
            }
            if !ids.insert(&canary.id) {
                return fail("id".into(), format!("{} is used twice", canary.id));
            }
            match canary.lookup {
                Lookup::Host => {
                    for (i, host) in canary.hosts.iter().enumerate() {
                        if !hosts.insert(host.to_ascii_lowercase()) {
                            return fail(format!("hosts[{i}]"), format!("{host} belongs to another canary"));
                        }
                    }
                }
                Lookup::Route => {
                    for (i, route) in canary.routes.iter().enumerate() {
                        if !routes.insert(route) {
                            return fail(format!("routes[{i}]"), format!("{route} belongs to another canary"));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

impl Canary {
    /// Returns whether any request can reach the canary.
    #[must_use]
    pub fn reaches_canary(&self) -> bool {
        let of_matched = |split: &MatchedSplit| split.weight > Weight::ZERO && !split.conditions.is_empty();
        let own_name = !self.direct.is_empty();
        self.weight > Weight::ZERO
            || !self.conditions.is_empty()
            || own_name
            || self.matched.as_ref().is_some_and(of_matched)
    }

    /// Returns whether this takes requests away from the canary that `before` gave it.
    #[must_use]
    pub fn takes_from(&self, before: &Self) -> bool {
        let share = |canary: &Self| canary.matched.as_ref().map_or(canary.weight, |matched| matched.weight);
        let narrows = before.weight > Weight::ZERO && self.matched.is_some();
        let became = |empty: fn(&Self) -> bool| empty(self) && !empty(before);
        share(self) < share(before)
            || narrows
            || became(|canary| canary.conditions.is_empty())
            || became(|canary| canary.direct.is_empty())
    }

    fn check(&self) -> Result<(), (String, String)> {
        let fail = |field: &str, problem: String| Err((field.to_owned(), problem));
        if !crate::names::is_id(&self.id) {
            return fail("id", format!("{:?} is not 16 lower-case hex digits", self.id));
        }
        if self.token.is_empty() || !self.token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return fail("token", "must be visible ASCII characters, at least one".into());
        }
        match self.lookup {
            Lookup::Host if self.hosts.is_empty() => return fail("hosts", "lookup by host needs at least one".into()),
            Lookup::Route if self.routes.is_empty() => {
                return fail("routes", "lookup by route needs at least one".into());
            }
            _ => {}
        }
        for (i, host) in self.hosts.iter().enumerate() {
            let name = host.strip_prefix("*.").unwrap_or(host);
            if name.is_empty() || (host != "*" && name.contains('*')) || name.contains(['/', ' ']) {
                return fail(&format!("hosts[{i}]"), format!("{host:?} is not a host name, `*.suffix` or `*`"));
            }
        }
        for (i, name) in self.direct.iter().enumerate() {
            if name.is_empty() || name.contains(['*', '/', ' ', ':']) {
                return fail(&format!("direct[{i}]"), format!("{name:?} is not a host name"));
            }
        }
        if self.latency_ms.len() > MAX_LATENCY_EDGES || self.latency_ms.windows(2).any(|pair| pair[0] >= pair[1]) {
            return fail("latency_ms", format!("must increase and have at most {MAX_LATENCY_EDGES} edges"));
        }
        for (i, limits) in self.limits.iter().enumerate() {
            for (table, rows) in [("comparison", &limits.comparison), ("absolute", &limits.absolute)] {
                if rows.windows(2).any(|pair| pair[0][0] >= pair[1][0]) || rows.iter().any(|row| row[1] == 0) {
                    return fail(&format!("limits[{i}].{table}"), "rows must increase, limits start at 1".into());
                }
            }
        }
        if let Some(affinity) = &self.affinity {
            let token = |byte: u8| byte.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?={}".contains(&byte);
            let names =
                [Some(("cookie", &affinity.cookie)), affinity.primary_cookie.as_ref().map(|it| ("primary_cookie", it))];
            for (field, name) in names.into_iter().flatten() {
                if name.is_empty() || !name.bytes().all(token) {
                    return fail(&format!("affinity.{field}"), format!("{name:?} is not a cookie name"));
                }
            }
            // It goes into a header of the response as it stands.
            if !affinity.attributes.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
                return fail("affinity.attributes", "must be visible ASCII characters and spaces".into());
            }
        }
        Ok(())
    }
}
