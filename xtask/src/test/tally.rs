//! Counts what passed, failed and was skipped, from the output of `cargo test` too.

/// Counts, and the names that are printed again at the end.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
    /// Test programs that began and have not printed a result.
    pub(super) unfinished: u32,
    /// Names of tests that passed.
    pub(super) passes: Vec<String>,
    /// Names of what failed.
    pub(super) failures: Vec<String>,
    /// Names of what failed first and then passed.
    pub(super) flaky: Vec<String>,
    /// Name and reason of what was skipped.
    pub(super) skips: Vec<(String, String)>,
}

impl Tally {
    /// Counts a failure.
    pub(super) fn fail(&mut self, name: &str) {
        self.failed += 1;
        self.failures.push(name.to_owned());
    }

    /// Counts a skip.
    pub(super) fn skip(&mut self, name: &str, reason: &str) {
        self.skipped += 1;
        self.skips.push((name.to_owned(), reason.to_owned()));
    }

    /// Takes what failed here for flaky if it passed in the run `again`.
    pub(super) fn passed_again(&mut self, again: &Self) {
        let (failures, flaky): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.failures).into_iter().partition(|name| !again.passes.contains(name));
        let passed = u32::try_from(flaky.len()).unwrap_or(u32::MAX).min(self.failed);
        self.failed -= passed;
        self.passed += passed;
        (self.failures, self.flaky) = (failures, flaky);
    }

    /// Adds what another tally counted.
    pub(super) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
        self.unfinished += other.unfinished;
        self.passes.extend(other.passes);
        self.failures.extend(other.failures);
        self.flaky.extend(other.flaky);
        self.skips.extend(other.skips);
    }

    /// Reads one line of `cargo test`. The line at the end of each test program counts; the lines
    /// of single tests give the names.
    pub(super) fn read(&mut self, line: &str) {
        if line.starts_with("running ") && (line.ends_with(" test") || line.ends_with(" tests")) {
            self.unfinished += 1;
            return;
        }
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.unfinished = self.unfinished.saturating_sub(1);
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
            self.skipped += count(counts, " ignored");
            return;
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        if outcome == "ok" {
            self.passes.push(name.to_owned());
        } else if outcome == "FAILED" {
            self.failures.push(name.to_owned());
        } else if let Some(reason) = outcome.strip_prefix("ignored") {
            let reason = reason.trim_start_matches(", ");
            self.skips.push((name.to_owned(), reason.to_owned()));
        }
    }
}

/// The number before `unit` in "ok. 3 passed; 0 failed; ...".
fn count(counts: &str, unit: &str) -> u32 {
    let before = counts.split(unit).next().filter(|before| before.len() < counts.len());
    let number = before.and_then(|before| before.rsplit(' ').next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 4 tests
test a::passes ... ok
test a::fails ... FAILED
test system::two_pods ... ignored, needs root and stock Envoy
test slow - should panic ... ok
test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s

running 10 tests
test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s

running 1 test
";

    #[test]
    fn every_test_program_counts_and_names_are_kept() {
        let mut tally = Tally::default();
        OUTPUT.lines().for_each(|line| tally.read(line));
        tally.skip("dependencies", "no tool");
        let expected = Tally {
            passed: 12,
            failed: 1,
            skipped: 2,
            unfinished: 1,
            passes: vec!["a::passes".into(), "slow - should panic".into()],
            failures: vec!["a::fails".into()],
            flaky: vec![],
            skips: vec![
                ("system::two_pods".into(), "needs root and stock Envoy".into()),
                ("dependencies".into(), "no tool".into()),
            ],
        };
        assert_eq!(tally, expected);
    }

    #[test]
    fn what_passes_the_second_time_is_flaky_and_no_failure() {
        let (mut tally, mut again) = (Tally::default(), Tally::default());
        for line in [
            "test a::late ... FAILED",
            "test a::wrong ... FAILED",
            "test result: FAILED. 5 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
        ] {
            tally.read(line);
        }
        for line in ["test a::late ... ok", "test a::wrong ... FAILED"] {
            again.read(line);
        }
        tally.passed_again(&again);
        assert_eq!((tally.passed, tally.failed), (6, 1));
        assert_eq!((tally.failures, tally.flaky), (vec!["a::wrong".to_owned()], vec!["a::late".to_owned()]));
    }

    #[test]
    fn other_lines_count_nothing() {
        let mut tally = Tally::default();
        for line in ["", "test result: ", "   Doc-tests eastwest_proto", "12 passed", "test of something"] {
            tally.read(line);
        }
        assert_eq!(tally, Tally::default());
    }
}
