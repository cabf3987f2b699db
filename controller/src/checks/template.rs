//! The words of a query that stand for a Canary's own: `{{ target }}`, `{{ interval }}`, `{{ variables.NAME }}`.
//!
//! Of Go's templates, which Flagger's queries are, this is what queries use: a word, a variable, and signs that take white space away.

use std::collections::BTreeMap;

/// What the words stand for.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    /// `name`, `namespace`, `target`, …
    pub(super) own: BTreeMap<&'static str, String>,
    /// Those of `templateVariables`.
    pub(super) variables: BTreeMap<String, String>,
}

impl Words {
    /// Returns a query with every word replaced.
    ///
    /// # Errors
    /// What of it is not known, and what is.
    pub(super) fn fill(&self, query: &str) -> Result<String, String> {
        let mut filled = String::with_capacity(query.len());
        let mut rest = query;
        while let Some((before, after)) = rest.split_once("{{") {
            let (word, after) = after.split_once("}}").ok_or("{{ is never closed by }}")?;
            let (word, trims_before) = word.strip_prefix("- ").map_or((word, false), |word| (word, true));
            let (word, trims_after) = word.strip_suffix(" -").map_or((word, false), |word| (word, true));
            filled.push_str(if trims_before { before.trim_end() } else { before });
            filled.push_str(self.word(word.trim())?);
            rest = if trims_after { after.trim_start() } else { after };
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn word(&self, word: &str) -> Result<&str, String> {
        if let Some(value) = self.own.get(word) {
            return Ok(value);
        }
        let Some(name) = word.strip_prefix("variables.") else {
            let known: Vec<&str> = self.own.keys().copied().collect();
            return Err(format!("{{{{ {word} }}}} is not known: use {} or variables.NAME", known.join(", ")));
        };
        let value = self.variables.get(name);
        value.map(String::as_str).ok_or_else(|| format!("{{{{ {word} }}}} needs {name} among templateVariables"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words() -> Words {
        let own = [("name", "cart"), ("target", "shop"), ("interval", "1m")];
        Words {
            own: own.map(|(word, value)| (word, value.to_owned())).into(),
            variables: [("reporter".to_owned(), "source".to_owned())].into(),
        }
    }

    #[test]
    fn a_query_is_filled_with_the_canarys_own_words() {
        let query = "sum(rate(x{w=~\"{{ target }}\",r=\"{{variables.reporter}}\"}[{{ interval }}]))";
        assert_eq!(words().fill(query).unwrap(), "sum(rate(x{w=~\"shop\",r=\"source\"}[1m]))");
        assert_eq!(
            words().fill("a  {{- name -}}  b").unwrap(),
            "a  {{- name -}}  b".replace("  {{- name -}}  ", "cart")
        );
        assert_eq!(words().fill("up{a=\"b\"} > bool 0").unwrap(), "up{a=\"b\"} > bool 0");
    }

    #[test]
    fn a_word_that_is_not_known_is_named_with_those_that_are() {
        let problem = |query: &str| words().fill(query).unwrap_err();
        assert_eq!(problem("{{ pod }}"), "{{ pod }} is not known: use interval, name, target or variables.NAME");
        assert_eq!(problem("{{ variables.x }}"), "{{ variables.x }} needs x among templateVariables");
        assert!(problem("rate(x[{{ interval)").contains("never closed"));
    }
}
