//! Every fault that a watch meets, played with simulated time.

use super::*;

type Objects = &'static [(&'static str, &'static str)];

/// A machine, the time, and what those who read know.
struct Play {
    machine: Machine<&'static str>,
    start: Instant,
    now: Instant,
    known: BTreeMap<String, &'static str>,
    resyncs: usize,
    asked: Option<Request>,
    failures: Vec<String>,
}

impl Play {
    fn start() -> Self {
        Self::with(Timing::default())
    }

    fn with(timing: Timing) -> Self {
        let start = Instant::now();
        let (machine, step) = Machine::start(timing, 7, start);
        let known = BTreeMap::new();
        let mut play =
            Self { machine, start, now: start, known, resyncs: 0, asked: None, failures: Vec::new() };
        play.take(step);
        play
    }

    fn take(&mut self, step: Step<&'static str>) {
        match step.delta {
            None => {}
            Some(Delta::Resync(all)) => {
                self.resyncs += 1;
                self.known = all.into_iter().map(|(key, object)| (key.name.into_string(), object)).collect();
            }
            Some(Delta::Upsert(key, object)) => drop(self.known.insert(key.name.into_string(), object)),
            Some(Delta::Delete(key)) => drop(self.known.remove(&*key.name)),
        }
        match step.command {
            Command::Keep => {}
            Command::Close => self.asked = None,
            Command::Send(request) => self.asked = Some(request),
        }
        self.failures.extend(step.failure.map(|failure| failure.message));
    }

    fn event(&mut self, event: Event<&'static str>) -> &mut Self {
        let step = self.machine.step(event, self.now);
        self.take(step);
        self
    }

    /// Lets the time pass until the deadline, which must be in the future.
    fn wait(&mut self) -> Duration {
        let waited = self.machine.deadline() - self.now;
        self.now = self.machine.deadline();
        self.event(Event::Timer);
        waited
    }

    fn passes(&mut self, time: Duration) -> &mut Self {
        self.now += time;
        self
    }

    fn added(&mut self, name: &str, object: &'static str, version: &str) -> &mut Self {
        self.event(Event::Changed { added: true, key: key(name), object, version: version.to_owned() })
    }

    fn modified(&mut self, name: &str, object: &'static str, version: &str) -> &mut Self {
        self.event(Event::Changed { added: false, key: key(name), object, version: version.to_owned() })
    }

    fn deleted(&mut self, name: &str, version: &str) -> &mut Self {
        self.event(Event::Deleted { key: key(name), version: version.to_owned() })
    }

    fn bookmark(&mut self, version: &str, initial_events_end: bool) -> &mut Self {
        self.event(Event::Bookmark { version: version.to_owned(), initial_events_end })
    }

    fn page(&mut self, objects: Objects, version: &str, next: Option<&str>) -> &mut Self {
        let objects = objects.iter().map(|(name, object)| (key(name), *object)).collect();
        self.event(Event::Page { objects, version: version.to_owned(), next: next.map(str::to_owned) })
    }

    fn fails(&mut self, cause: Cause) -> &mut Self {
        self.event(Event::Failed(Failure::new(cause, format!("{cause:?}"))))
    }

    /// A streaming list with these objects, up to version 10.
    fn synced(objects: Objects) -> Self {
        let mut play = Self::start();
        play.event(Event::Opened);
        for (name, object) in objects {
            play.added(name, object, "3");
        }
        play.bookmark("10", true);
        play
    }

    /// As [`Play::synced`], by pages.
    fn paged(objects: Objects) -> Self {
        let mut play = Self::start();
        play.fails(Cause::NoStreaming).page(objects, "10", None).event(Event::Opened);
        play
    }

    fn knows(&self, expected: Objects) {
        let known: Vec<_> = self.known.iter().map(|(name, object)| (name.as_str(), *object)).collect();
        assert_eq!(known, expected);
        if !self.machine.health().listing {
            assert_eq!(self.machine.health().objects, expected.len(), "the count");
        }
    }

    fn lists(&self) -> bool {
        matches!(self.asked, Some(Request::StreamingList { .. } | Request::Page { .. }))
    }

    fn pages(&self) -> bool {
        matches!(self.asked, Some(Request::Page { .. }))
    }

    fn watches_from(&self) -> Option<&str> {
        match &self.asked {
            Some(Request::Watch { version, .. }) => Some(version),
            _ => None,
        }
    }

    fn live(&self) -> bool {
        self.machine.health().live
    }
}

fn key(name: &str) -> Key {
    Key { namespace: "shop".into(), name: name.into() }
}

#[test]
fn a_streaming_list_is_told_when_it_is_complete_and_goes_on_as_a_watch() {
    let mut play = Play::start();
    assert!(matches!(play.asked, Some(Request::StreamingList { .. })));
    play.event(Event::Opened).added("a", "a3", "3").added("b", "b2", "2");
    assert_eq!((play.resyncs, play.live()), (0, false));
    // Changes may come before the end.
    play.modified("a", "a11", "11").deleted("b", "12").bookmark("9", false).bookmark("12", true);
    play.knows(&[("a", "a11")]);
    assert!(play.live() && play.machine.health().synced);
    play.added("c", "c13", "13").modified("a", "a14", "14").deleted("c", "15");
    play.knows(&[("a", "a14")]);
    play.event(Event::Ended);
    assert_eq!(play.watches_from(), Some("15"));
    assert!(play.live() && play.failures.is_empty() && play.resyncs == 1);
}

#[test]
fn an_api_that_cannot_stream_is_listed_by_pages_at_once_and_for_good() {
    let mut play = Play::start();
    play.event(Event::Opened).added("x", "ghost", "1").fails(Cause::NoStreaming);
    assert_eq!(play.asked, Some(Request::Page { next: None }));
    play.page(&[("a", "a")], "10", Some("more"));
    assert_eq!(play.asked, Some(Request::Page { next: Some("more".to_owned()) }));
    assert_eq!(play.resyncs, 0);
    play.page(&[("b", "b")], "10", None);
    play.knows(&[("a", "a"), ("b", "b")]);
    assert_eq!((play.watches_from(), play.live()), (Some("10"), false));
    play.event(Event::Opened);
    assert!(play.live());
    play.fails(Cause::Expired).wait();
    assert!(play.pages());
}

/// Trap 1: every step has its own deadline.
#[test]
fn each_step_that_hangs_is_given_up() {
    let timing = Timing::default();
    // The head of a streaming list.
    let mut play = Play::start();
    assert_eq!(play.wait(), timing.answer);
    play.wait();
    // A page; then a later one.
    assert!(play.pages());
    assert_eq!(play.wait(), timing.page);
    play.wait();
    play.page(&[("a", "a")], "10", Some("more"));
    assert_eq!(play.wait(), timing.page);
    play.wait();
    play.page(&[("a", "a")], "10", None);
    // The head of a watch.
    assert_eq!(play.wait(), timing.answer);
    play.knows(&[("a", "a")]);
    play.wait();
    assert_eq!(play.watches_from(), Some("10"));
    // A watch that is silent beyond its end: at most a minute after its last word.
    play.event(Event::Opened);
    assert!(play.live());
    let waited = play.wait();
    assert!(waited >= timing.watch.mul_f64(0.7) && waited <= timing.watch + timing.grace, "{waited:?}");
    assert!(!play.live(), "known to be stale");
    play.knows(&[("a", "a")]);
    assert_eq!(play.failures.len(), 5, "{:?}", play.failures);
}

/// Trap 1: a list that trickles on beyond the life of its watch is given up too.
#[test]
fn a_streaming_list_that_never_ends_is_given_up_for_pages() {
    let timing = Timing::default();
    let mut play = Play::start();
    play.event(Event::Opened);
    let begin = play.now;
    while play.failures.is_empty() {
        play.passes(Duration::from_secs(4)).modified("a", "a", "1").event(Event::Timer);
        assert!(play.now - begin <= timing.watch + Duration::from_secs(4));
    }
    play.wait();
    assert!(play.pages());
    play.knows(&[]);
}

/// Trap 6: the end of the initial events may never come.
#[test]
fn without_the_end_of_the_initial_events_the_next_list_is_paged_and_a_later_one_streams() {
    let mut play = Play::start();
    play.event(Event::Opened).added("a", "half", "1");
    assert_eq!(play.wait(), Timing::default().silence);
    assert_eq!(play.resyncs, 0);
    play.wait();
    play.page(&[("a", "a"), ("b", "b")], "10", None).event(Event::Opened);
    play.knows(&[("a", "a"), ("b", "b")]);
    play.fails(Cause::Expired).wait();
    assert!(matches!(play.asked, Some(Request::StreamingList { .. })));
}

/// Trap 2: bookmarks are seen, and move the version on.
#[test]
fn a_bookmark_is_a_sign_of_life() {
    let mut play = Play::paged(&[("a", "a")]);
    play.passes(Duration::from_secs(30)).bookmark("50", false);
    assert_eq!(play.machine.health().bookmarks, 1);
    play.passes(Duration::from_secs(10)).event(Event::Ended);
    assert_eq!(play.watches_from(), Some("50"));
}

/// Trap 3: the back-off grows for as long as no list is complete.
#[test]
fn the_back_off_grows_up_to_its_bound_while_lists_fail_and_begins_anew_after_a_complete_one() {
    for cause in [Cause::Forbidden, Cause::NotFound, Cause::Unreachable, Cause::Refused, Cause::Malformed] {
        let timing = Timing::default();
        let mut play = Play::start();
        let mut expected = timing.first_pause;
        let mut asked = 0;
        while play.now - play.start < Duration::from_secs(600) {
            // Streams open, and fail before their end.
            play.event(Event::Opened).fails(cause);
            let pause = play.wait();
            assert!(pause >= expected / 2 && pause <= expected, "{pause:?} after {asked} failures");
            expected = (expected * 2).min(timing.longest_pause);
            asked += 1;
        }
        assert!(asked < 150, "{cause:?}: asked {asked} times in ten minutes");
        play.event(Event::Opened).bookmark("5", true).page(&[], "5", None).fails(cause);
        let pause = play.wait();
        assert!(pause <= timing.first_pause, "{cause:?}: {pause:?}");
    }
}

#[test]
fn a_server_that_asks_for_more_time_gets_it() {
    let mut play = Play::start();
    let failure =
        Failure { retry_after: Some(Duration::from_secs(30)), ..Failure::new(Cause::Refused, "429") };
    play.event(Event::Failed(failure));
    assert_eq!(play.wait(), Duration::from_secs(30));
}

/// Trap 4: 410, inside a stream or as a status, leads to a fresh list.
#[test]
fn an_expired_version_leads_to_a_fresh_list_and_nothing_is_forgotten_meanwhile() {
    for opened in [false, true] {
        let mut play = Play::paged(&[("a", "a"), ("b", "b")]);
        play.passes(Duration::from_secs(20)).event(Event::Ended).page(&[], "10", None);
        if opened {
            play.event(Event::Opened);
        }
        play.fails(Cause::Expired);
        play.knows(&[("a", "a"), ("b", "b")]);
        assert!(!play.live());
        play.wait();
        assert!(play.lists());
        play.page(&[("b", "b2")], "20", None).event(Event::Opened);
        play.knows(&[("b", "b2")]);
        assert!(play.live());
    }
}

/// Trap 4: whatever the reason, a version that fails three times is given up.
#[test]
fn three_failures_from_one_version_lead_to_a_fresh_list() {
    let mut play = Play::synced(&[("a", "a")]);
    for _ in 0..2 {
        play.fails(Cause::Refused).wait();
        assert_eq!(play.watches_from(), Some("10"));
    }
    play.fails(Cause::Refused).wait();
    assert!(play.lists());
    play.knows(&[("a", "a")]);
}

#[test]
fn failures_with_progress_in_between_need_no_list() {
    let mut play = Play::synced(&[("a", "a")]);
    for version in ["11", "12", "13", "14", "15"] {
        play.fails(Cause::Unreachable).wait();
        play.event(Event::Opened).modified("a", "a", version);
    }
    assert_eq!((play.resyncs, play.failures.len()), (1, 5));
}

/// A list that succeeds and a watch that refuses its version at once, for ever.
#[test]
fn lists_that_their_watches_throw_away_are_not_repeated_without_pause() {
    let mut play = Play::paged(&[]);
    while play.now - play.start < Duration::from_secs(600) {
        play.fails(Cause::Expired).wait();
        assert!(play.lists());
        play.page(&[], "10", None).event(Event::Opened);
    }
    assert!(play.resyncs < 150, "{} lists in ten minutes", play.resyncs);
}

/// Trap 4: etcd restored from an older snapshot.
#[test]
fn a_history_that_went_back_is_noticed_by_an_event_a_bookmark_or_a_probe() {
    let mut event = Play::paged(&[("a", "a")]);
    event.modified("a", "older", "4");
    let mut bookmark = Play::paged(&[("a", "a")]);
    bookmark.bookmark("4", false);
    let mut probe = Play::paged(&[("a", "a")]);
    probe.passes(Duration::from_secs(45)).event(Event::Ended);
    assert_eq!(probe.asked, Some(Request::Probe));
    probe.page(&[("z", "no news")], "4", None);
    for mut play in [event, bookmark, probe] {
        play.knows(&[("a", "a")]);
        assert!(!play.live());
        play.wait();
        assert!(play.lists());
        play.page(&[], "5", None);
        play.knows(&[]);
        assert_eq!(play.watches_from(), Some("5"));
    }
}

#[test]
fn a_silent_watch_is_probed_and_goes_on_from_its_own_version() {
    let mut play = Play::paged(&[("a", "a")]);
    play.passes(Duration::from_secs(45)).event(Event::Ended);
    assert_eq!((&play.asked, play.live()), (&Some(Request::Probe), true));
    // Newer objects of other kinds: what lies between must still be watched.
    play.page(&[("b", "not by this way")], "99", None);
    assert_eq!(play.watches_from(), Some("10"));
    play.knows(&[("a", "a")]);
    // A probe that hangs.
    play.event(Event::Opened).passes(Duration::from_secs(45)).event(Event::Ended).wait();
    assert!(!play.live());
    play.wait();
    assert_eq!(play.watches_from(), Some("10"));
}

#[test]
fn watches_that_end_at_once_are_not_repeated_without_pause() {
    let mut play = Play::paged(&[]);
    while play.now - play.start < Duration::from_secs(300) {
        if play.watches_from().is_some() {
            play.event(Event::Opened).event(Event::Ended);
        } else {
            play.page(&[], "10", None);
        }
        if play.asked.is_none() {
            play.wait();
        }
    }
    assert!(play.failures.len() < 120, "{} failures in five minutes", play.failures.len());
}

/// Trap 7: two broken lists with a deletion between them.
#[test]
fn a_list_that_breaks_off_neither_forgets_nor_keeps() {
    let mut play = Play::paged(&[("a", "a"), ("b", "b"), ("c", "c")]);
    play.fails(Cause::Expired).wait();
    play.page(&[("a", "a1"), ("b", "b1")], "20", Some("more"));
    play.knows(&[("a", "a"), ("b", "b"), ("c", "c")]);
    play.fails(Cause::Malformed);
    play.knows(&[("a", "a"), ("b", "b"), ("c", "c")]);
    // Now b is deleted, and the next list breaks off as well.
    play.wait();
    play.page(&[("a", "a2")], "30", Some("more")).fails(Cause::Unreachable);
    play.knows(&[("a", "a"), ("b", "b"), ("c", "c")]);
    play.wait();
    assert_eq!(play.asked, Some(Request::Page { next: None }), "from the beginning");
    play.page(&[("a", "a3")], "40", Some("more")).page(&[("c", "c3")], "40", None);
    play.knows(&[("a", "a3"), ("c", "c3")]);
}

/// Trap 7, for a streaming list.
#[test]
fn a_streaming_list_that_breaks_off_leaves_no_trace() {
    let mut play = Play::synced(&[("a", "a"), ("b", "b")]);
    play.fails(Cause::Expired).wait();
    play.event(Event::Opened).added("ghost", "ghost", "11").event(Event::Ended);
    play.knows(&[("a", "a"), ("b", "b")]);
    play.wait();
    play.page(&[("b", "b")], "20", None);
    play.knows(&[("b", "b")]);
}

/// Trap 7: pages of a list whose continuation expired.
#[test]
fn an_expired_continuation_begins_the_list_anew() {
    let mut play = Play::paged(&[("a", "a")]);
    play.fails(Cause::Expired).wait();
    play.page(&[("x", "x")], "20", Some("more")).fails(Cause::Expired).wait();
    assert_eq!(play.asked, Some(Request::Page { next: None }));
    play.page(&[("y", "y")], "30", None);
    play.knows(&[("y", "y")]);
}

#[test]
fn a_connection_that_cannot_be_made_says_nothing_about_streaming() {
    let mut play = Play::start();
    for _ in 0..5 {
        play.fails(Cause::Unreachable).wait();
        assert!(matches!(play.asked, Some(Request::StreamingList { .. })));
    }
    for cause in [Cause::Forbidden, Cause::Unauthorized, Cause::NotFound] {
        play.event(Event::Opened).fails(cause).wait();
        assert!(matches!(play.asked, Some(Request::StreamingList { .. })), "{cause:?}");
    }
}

#[test]
fn what_comes_late_is_ignored() {
    let mut play = Play::synced(&[("a", "a")]);
    play.event(Event::Timer);
    assert!(play.live(), "a deadline that has moved on");
    play.page(&[("x", "x")], "1", None);
    play.fails(Cause::Unreachable).fails(Cause::Unreachable);
    play.added("x", "x", "11").deleted("a", "12").bookmark("13", true).event(Event::Opened);
    play.knows(&[("a", "a")]);
    assert_eq!(play.failures.len(), 1);
}

#[test]
fn watches_live_for_whole_seconds_and_do_not_end_together() {
    let spans: std::collections::BTreeSet<Duration> = (1..40)
        .map(|seed| {
            let (machine, _) = Machine::<()>::start(Timing::default(), seed * 7919, Instant::now());
            let Phase::Initial { span, .. } = machine.phase else { panic!("no list") };
            span
        })
        .collect();
    assert!(spans.len() > 3, "{spans:?}");
    assert!(spans.iter().all(|span| (40..=50).contains(&span.as_secs()) && span.subsec_nanos() == 0));
}
