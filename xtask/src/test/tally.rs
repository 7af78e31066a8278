//! Counts what passed, failed and was skipped, from the output of `cargo test` too.

/// Counts, and the names that are printed again at the end.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tally {
    pub(super) passed: u32,
    pub(super) failed: u32,
    pub(super) skipped: u32,
    /// Names of what failed.
    pub(super) failures: Vec<String>,
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

    /// Reads one line of `cargo test`. The line at the end of each test program counts; the lines
    /// of single tests give the names.
    pub(super) fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += count(counts, " passed");
            self.failed += count(counts, " failed");
            self.skipped += count(counts, " ignored");
            return;
        }
        let Some((name, outcome)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        if outcome == "FAILED" {
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

test result: ok. 10 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s
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
            failures: vec!["a::fails".into()],
            skips: vec![
                ("system::two_pods".into(), "needs root and stock Envoy".into()),
                ("dependencies".into(), "no tool".into()),
            ],
        };
        assert_eq!(tally, expected);
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
