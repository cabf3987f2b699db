//! The public word of every value of an enum, in one table each: in status, metrics, webhook bodies, events and on the screen.
//!
//! `Debug` is for programmers and may change with any release; these words are a contract.

/// A word that is none of those expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownWord {
    /// What was found.
    pub found: String,
    /// The words that are known.
    pub expected: String,
}

impl std::fmt::Display for UnknownWord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is not known: use {}", self.found, self.expected)
    }
}

impl std::error::Error for UnknownWord {}

/// Writes a number with its thousands apart: `14,400`.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Gives an enum its words: `ALL`, `as_str`, `Display` and `FromStr` (without regard to case) from one table.
macro_rules! words {
    ($kind:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $kind {
            /// Every value, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the public word.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $kind {
            type Err = $crate::words::UnknownWord;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|value| value.as_str().eq_ignore_ascii_case(text));
                found.copied().ok_or_else(|| $crate::words::UnknownWord {
                    found: text.to_owned(),
                    expected: [$($word),+].join(", "),
                })
            }
        }
    };
}

pub(super) use words;

#[cfg(test)]
mod tests {
    use crate::{Outcome, Phase, Stage, Verb};

    #[test]
    fn every_word_is_read_back_without_regard_to_case() {
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().to_lowercase().parse(), Ok(*phase));
        }
        for verb in Verb::ALL {
            assert_eq!(verb.to_string().parse(), Ok(*verb));
        }
        let unknown = "undo".parse::<Verb>().unwrap_err().to_string();
        assert_eq!(unknown, "undo is not known: use pause, resume, promote, abort, retry");
    }

    #[test]
    fn words_of_stored_enums_are_those_that_were_stored_before() {
        // The CRD's column, dashboards and webhooks of users compare with these.
        let words = Phase::ALL.iter().map(|phase| phase.as_str()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            words,
            "Initializing Initialized Waiting Progressing WaitingPromotion Promoting Finalising Succeeded Failed \
             Terminating Terminated"
        );
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.as_str());
        }
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str().to_lowercase());
        }
        assert_eq!(
            serde_json::to_value(Stage::Stranded).unwrap(),
            "Stranded",
            "a stored name stays, whatever the code says"
        );
    }
}
