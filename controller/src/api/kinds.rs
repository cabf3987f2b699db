//! The kinds that a Canary may name, each once: the schema's rules, the plan's refusals and the matches of the cluster's side are
//! made from these lists. Whoever adds a kind adds it here, and the compiler shows the rest.

/// The workload that `weir standalone` releases.
pub(crate) const PROCESS: &str = "Process";

/// The kind of a workload that a cluster releases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// A Deployment.
    #[default]
    Deployment,
}

/// Who sends requests to the arms, and splits them at the gateway: Flagger's `provider`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RouterKind {
    /// Istio, by a `VirtualService`.
    #[default]
    Istio,
}

/// The kind of an autoscaler that the primary gets a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoscalerKind {
    /// Kubernetes' own.
    HorizontalPodAutoscaler,
}

impl TargetKind {
    /// Every kind.
    pub(crate) const ALL: &[Self] = &[Self::Deployment];

    /// Returns the kind of this name, if it is one.
    #[must_use]
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }

    /// Returns the kind's name.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
        }
    }

    /// Returns the kind's name in paths.
    #[must_use]
    pub(crate) const fn plural(self) -> &'static str {
        match self {
            Self::Deployment => "deployments",
        }
    }

    /// Returns the API group.
    #[must_use]
    pub(crate) const fn group(self) -> &'static str {
        match self {
            Self::Deployment => "apps",
        }
    }

    /// Returns the version of the group.
    #[must_use]
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Deployment => "v1",
        }
    }

    /// Returns group and version, as objects write them.
    #[must_use]
    pub(crate) fn api_version(self) -> String {
        format!("{}/{}", self.group(), self.version())
    }
}

impl RouterKind {
    /// Every kind.
    pub(crate) const ALL: &[Self] = &[Self::Istio];

    /// Returns the kind that `spec.provider` names, if it names one.
    #[must_use]
    pub(crate) fn of(provider: Option<&str>) -> Option<Self> {
        let Some(word) = provider.filter(|word| !word.is_empty()) else { return Some(Self::default()) };
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }

    /// Returns the value of `spec.provider`.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Istio => "istio",
        }
    }
}

impl AutoscalerKind {
    /// Every kind.
    pub(crate) const ALL: &[Self] = &[Self::HorizontalPodAutoscaler];

    /// Returns the kind of this name, if it is one.
    #[must_use]
    pub(crate) fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.word() == word)
    }

    /// Returns the kind's name.
    #[must_use]
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }
}
