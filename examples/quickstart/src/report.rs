//! The report at the end.

use std::collections::BTreeMap;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use larder::{Explanation, Result, SizeClass, TierKind};

use crate::library::Library;
use crate::question::end_of;
use crate::study::Study;

/// Prints the results of the study.
pub(crate) fn study(Study { folders, totals, frequent, phrases, .. }: &Study) {
    let [files, folders, copies] =
        [totals.files, *folders, totals.files - totals.digests.len()].map(|n| HumanCount(n as u64));
    let [lines, words] = [totals.lines, totals.words].map(HumanCount);
    let [bytes, repeat] = [totals.bytes, totals.repeat.0].map(HumanBytes);
    println!("{files} files in {folders} folders: {bytes}, {lines} lines, {words} words");
    println!("copies of other files: {copies}");
    println!("longest passage twice in one file: {repeat}, in {}", end_of(&totals.repeat.1, 5));
    println!(
        "frequent words: {}",
        list(frequent.iter().map(|(word, count)| (word.as_str(), u64::from(*count))))
    );
    println!(
        "phrases in the index: {}",
        list(phrases.iter().map(|(phrase, count)| (*phrase, *count as u64)))
    );
}

fn list<'a>(counted: impl Iterator<Item = (&'a str, u64)>) -> String {
    let items: Vec<_> = counted.map(|(name, count)| format!("`{name}` {}", HumanCount(count))).collect();
    items.join(", ")
}

/// Prints the statistics of this run, tier by tier.
pub(crate) fn statistics(library: &Library) {
    println!("\nthis run, tier by tier\n{}", library.stats());
}

/// Prints the content of the cache: answers by subject, home and rule.
pub(crate) fn holdings(library: &Library, study: &Study) -> Result<()> {
    let mut rows: BTreeMap<(&str, TierKind, &str), Sizes> = BTreeMap::new();
    for question in library.questions()? {
        let explanation = library.explain(&question)?;
        if let (Some(home), Some(bytes)) = (explanation.home, explanation.bytes) {
            rows.entry((question.subject(), home, rule(&explanation))).or_default().add(bytes);
        }
    }
    println!("what the cache in {} holds, and why", library.place());
    println!("{:<21}{:>7}{:>13}{:>13}  {:<8}rule", "answers", "count", "from", "to", "home");
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|((_, home, _), sizes)| (sizes.to, *home));
    for ((subject, home, rule), Sizes { count, from, to }) in rows {
        let [from, to] = [from, to].map(|bytes| HumanBytes(bytes).to_string());
        println!("{subject:<21}{:>7}{from:>13}{to:>13}  {home:<8}{rule}", HumanCount(count).to_string());
    }
    examples(library, study)
}

/// The rule that chose the home.
///
/// An explanation names the rule of an insert, which does not consider the cost of a load. A small answer in
/// another tier is there because of its cost, a larger one because its first choice failed.
fn rule(explanation: &Explanation) -> &'static str {
    match explanation.placement {
        Some(placement) if Some(placement.home) == explanation.home => placement.rule,
        _ if explanation.class == Some(SizeClass::Small) => "small, and cost more than 1 ms to load: disk",
        _ => "the first choice failed",
    }
}

struct Sizes {
    count: u64,
    from: u64,
    to: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self { count: 0, from: u64::MAX, to: 0 }
    }
}

impl Sizes {
    fn add(&mut self, bytes: u64) {
        self.count += 1;
        self.from = self.from.min(bytes);
        self.to = self.to.max(bytes);
    }
}

fn examples(library: &Library, study: &Study) -> Result<()> {
    println!("\nfor example");
    for question in &study.examples {
        println!("{question}\n    {}", library.explain(question)?);
    }
    Ok(())
}

/// Prints the duration of this run and of the first run over the same sources.
pub(crate) fn times(this_run: Duration, first_run: Option<Duration>) {
    let this = this_run.as_secs_f64();
    let Some(first) = first_run.map(|first| first.as_secs_f64()) else {
        println!("\nfirst run over these sources: {this:.1} s; run it again, and the cache serves it");
        return;
    };
    println!("\nfirst run: {first:.1} s, this run: {this:.2} s ({:.0} times faster)", first / this);
}
