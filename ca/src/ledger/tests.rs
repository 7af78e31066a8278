//! Ledgers that are whole, and every way in which one may be broken.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use eastwest_identity::{SpiffeId, TrustDomain};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::{
    LocalIssuer, PrivateKey, TrustBundle,
    issuing::{issuer::Issuer as _, new_root::self_signed_root},
    names::ServingName,
};

fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_790_000_000).unwrap()
}

/// A CA with its root.
fn ca() -> (LocalIssuer, TrustBundle) {
    let key = PrivateKey::generate().unwrap();
    let root = self_signed_root(&TrustDomain::parse("td").unwrap(), &key, now()).unwrap();
    let roots = TrustBundle::new(vec![root.clone()]).unwrap();
    (LocalIssuer::new(key, vec![root], &roots, now()).unwrap(), roots)
}

fn issued(n: u64) -> Event {
    let identity = SpiffeId::parse("spiffe://td/ns/shop/sa/reviews").unwrap();
    let requester =
        Requester { caller: Some(identity.clone()), node: Some("node-1".to_owned()), ..Requester::default() };
    let (serial, key, key_sha256) = (format!("{n:x}"), "ECDSA P-256".to_owned(), String::new());
    Event::Issued(Box::new(Issued {
        names: Vec::new(),
        identity,
        serial,
        key,
        key_sha256,
        not_after: now(),
        ttl: 60,
        requester,
    }))
}

/// A ledger in memory, as a writer makes it.
struct Book {
    key: LedgerKey,
    head: Head,
    segments: Vec<Vec<u8>>,
}

impl Book {
    fn new(issuer: &LocalIssuer) -> Self {
        let key = LedgerKey::new(PrivateKey::generate().unwrap()).unwrap();
        let mut book = Self { key, head: Head::GENESIS, segments: Vec::new() };
        book.begin(issuer);
        book
    }

    fn begin(&mut self, issuer: &LocalIssuer) {
        self.segments.push(Vec::new());
        let number = self.segments.len() as u64;
        self.put(Event::Segment { number, previous: self.head.hash });
        self.put(self.key.certify(issuer, now()).unwrap());
    }

    fn put(&mut self, event: Event) {
        self.head.append(&event, now(), self.segments.last_mut().unwrap()).unwrap();
    }

    fn commit(&mut self, numbers: std::ops::Range<u64>) {
        numbers.for_each(|n| self.put(issued(n)));
        self.put(self.key.checkpoint(self.head.hash).unwrap());
    }
}

fn verify(segments: &[(u64, Vec<u8>)], roots: &TrustBundle) -> Result<Report, Broken> {
    let mut verifier = Verifier::new(roots);
    for (number, text) in segments {
        verifier.segment(*number)?;
        for line in text.strip_suffix(b"\n").unwrap().split(|byte| *byte == b'\n') {
            verifier.line(line)?;
        }
    }
    verifier.finish()
}

fn numbered(segments: &[Vec<u8>]) -> Vec<(u64, Vec<u8>)> {
    (1..).zip(segments.iter().cloned()).collect()
}

/// Two segments with four records each and a checkpoint in the middle.
fn book() -> (Book, TrustBundle) {
    let (issuer, roots) = ca();
    let mut book = Book::new(&issuer);
    for _ in 0..2 {
        book.commit(0..2);
        book.commit(2..4);
        if book.segments.len() < 2 {
            book.begin(&issuer);
        }
    }
    (book, roots)
}

#[test]
fn a_whole_ledger() {
    let (book, roots) = book();
    let report = verify(&numbered(&book.segments), &roots).unwrap();
    assert_eq!((report.segments, report.records, report.issued), (2, 16, 8));
    assert_eq!((report.checkpoints, report.uncovered, report.last), (4, 0, 16));
    assert_eq!(report.head, book.head.hash.to_string());
    let newer = verify(&numbered(&book.segments)[1..], &roots).unwrap();
    assert_eq!((newer.first_segment, newer.records), (2, 8), "older segments may be moved away");
    let line = String::from_utf8(book.segments[0].clone()).unwrap();
    let line: serde_json::Value = serde_json::from_str(line.lines().nth(2).unwrap()).unwrap();
    assert_eq!(line["record"]["event"], "issued");
    assert_eq!(line["record"]["node"], "node-1");
}

/// Every byte counts: whichever is changed, the line is found.
#[test]
fn any_changed_byte_is_found() {
    let (book, roots) = book();
    let whole = &book.segments[0];
    for at in (0..whole.len()).step_by(7).filter(|at| whole[*at] != b'\n') {
        let mut segments = numbered(&book.segments);
        segments[0].1[at] ^= 1;
        let broken = verify(&segments, &roots).unwrap_err();
        let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
        // A byte that becomes a line feed breaks the line in two; a changed hash breaks the next line at the latest.
        assert_eq!(broken.segment, 1, "{at}: {broken}");
        assert!((line..=line + 1).contains(&broken.line), "{at}, line {line}: {broken}");
    }
}

#[test]
fn removed_inserted_and_swapped_records_are_found() {
    let (book, roots) = book();
    let lines: Vec<&[u8]> = book.segments[0].split_inclusive(|byte| *byte == b'\n').collect();
    let last = lines.len() - 1;
    for at in 0..last {
        let mut removed = lines.clone();
        removed.remove(at);
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        let mut swapped = lines.clone();
        swapped.swap(at, at + 1);
        for (what, lines) in [("removed", removed), ("twice", twice), ("swapped", swapped)] {
            let segments = [(1, lines.concat()), (2, book.segments[1].clone())];
            assert!(verify(&segments, &roots).is_err(), "{what} {at}");
        }
    }
    let cut = [(1, lines[..last].concat()), (2, book.segments[1].clone())];
    let broken = verify(&cut, &roots).unwrap_err();
    assert_eq!((broken.segment, broken.line), (2, 1), "the end of a segment that is not the last: {broken}");
    let gap = verify(&[numbered(&book.segments)[0].clone(), (3, book.segments[1].clone())], &roots);
    assert_eq!(gap.unwrap_err().problem, Problem::MissingSegment(2));
}

/// A chain that was written without the ledger key.
#[test]
fn forged_checkpoints_are_found() {
    let (issuer, roots) = ca();
    let mut book = Book::new(&issuer);
    let other = LedgerKey::new(PrivateKey::generate().unwrap()).unwrap();
    book.put(issued(0));
    let forged = |event| {
        let (mut head, mut text) = (book.head, book.segments[0].clone());
        head.append(&event, now(), &mut text).unwrap();
        verify(&[(1, text)], &roots).unwrap_err().problem
    };
    let Event::Checkpoint { signature, .. } = other.checkpoint(book.head.hash).unwrap() else { panic!() };
    let key = book.key.id().to_owned();
    assert_eq!(forged(Event::Checkpoint { key: key.clone(), signature }), Problem::Signature);
    assert_eq!(forged(Event::Checkpoint { key, signature: "?".to_owned() }), Problem::Signature);
    let unknown = other.checkpoint(book.head.hash).unwrap();
    assert!(matches!(forged(unknown), Problem::UnknownKey(_)));
    let stale = book.key.checkpoint(Hash::GENESIS).unwrap();
    assert_eq!(forged(stale), Problem::Signature);
    let workload =
        Event::Signer { key: other.id().to_owned(), ca: String::new(), chain: vec!["AA==".into()] };
    assert!(matches!(forged(workload), Problem::Signer(_)));
}

/// A key that our root does not certify, first seen in its first checkpoint.
#[test]
fn a_key_of_another_ca_is_found() {
    let ((stranger, _), (_, roots)) = (ca(), ca());
    let mut book = Book::new(&stranger);
    book.commit(0..1);
    let broken = verify(&numbered(&book.segments), &roots).unwrap_err();
    assert_eq!((broken.segment, broken.line), (1, 4));
    assert!(matches!(broken.problem, Problem::Untrusted(_)), "{broken}");
}

/// A CA below `root`, which says that it is for `usages`.
fn below(root: &PrivateKey, usages: Vec<ExtendedKeyUsagePurpose>) -> (LocalIssuer, TrustBundle) {
    let named = |name: &str, usages| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.not_before, params.not_after) = (now() - Duration::DAY, now() + Duration::DAY);
        params.extended_key_usages = usages;
        params
    };
    let (root_params, key) = (named("root", vec![]), PrivateKey::generate().unwrap());
    let root_certificate = CertificateDer::from(root_params.self_signed(root).unwrap());
    let root = rcgen::Issuer::new(root_params, root);
    let middle = named("middle", usages).signed_by(&key, &root).unwrap().into();
    let roots = TrustBundle::new(vec![root_certificate]).unwrap();
    (LocalIssuer::new(key, vec![middle], &roots, now()).unwrap(), roots)
}

/// Whatever the CA that is plugged in says of usages, its ledger can be verified; a certificate of the same CA that is
/// not for signing documents verifies no checkpoint.
#[test]
fn a_ca_below_a_root_vouches_for_the_key_whatever_its_own_usages() {
    let root = PrivateKey::generate().unwrap();
    let tls = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    for usages in [vec![], tls] {
        let (issuer, roots) = below(&root, usages);
        let mut book = Book::new(&issuer);
        book.commit(0..2);
        assert_eq!(verify(&numbered(&book.segments), &roots).unwrap().issued, 2);

        let key = PrivateKey::generate().unwrap();
        let (names, minute) = ([ServingName::Dns("reviews".into())], std::time::Duration::from_secs(60));
        let leaf = issuer.issue_serving(&names, &key.public().unwrap(), minute, now()).unwrap();
        let forger = LedgerKey::new(key).unwrap();
        let chain = [leaf.der].iter().chain(issuer.intermediates()).map(|der| STANDARD.encode(der)).collect();
        let mut book = Book::new(&issuer);
        book.put(Event::Signer { key: forger.id().to_owned(), ca: issuer.key_sha256(), chain });
        book.key = forger;
        book.commit(0..2);
        let broken = verify(&numbered(&book.segments), &roots).unwrap_err();
        assert!(matches!(broken.problem, Problem::Untrusted(_)), "{broken}");
    }
}

/// The key stays when the CA rotates, so either root serves for the whole ledger.
#[test]
fn the_ledger_outlives_its_ca() {
    let ((old, old_roots), (new, new_roots)) = (ca(), ca());
    let mut book = Book::new(&old);
    book.commit(0..2);
    book.put(book.key.certify(&new, now()).unwrap());
    book.commit(2..4);
    for roots in [&old_roots, &new_roots] {
        assert_eq!(verify(&numbered(&book.segments), roots).unwrap().issued, 4);
    }
}

#[test]
fn records_of_an_unfinished_commit_are_counted() {
    let (issuer, roots) = ca();
    let mut book = Book::new(&issuer);
    book.commit(0..2);
    book.put(issued(2));
    assert_eq!(verify(&numbered(&book.segments), &roots).unwrap().uncovered, 1);
}

#[test]
fn hashes_are_hexadecimal_in_lower_case() {
    let text = "0f".repeat(32);
    assert_eq!(text.parse::<Hash>().unwrap().to_string(), text);
    for bad in ["", &text[1..], &format!("{text}0"), &text.to_uppercase(), &text.replace('f', "g")] {
        assert!(bad.parse::<Hash>().is_err(), "{bad}");
    }
}

/// Records of before JWT-SVIDs were in the ledger: read as what they were, and written as they were.
#[test]
fn older_records_read_and_write_the_same() {
    let old =
        r#"{"seq":3,"time":"2026-09-21T14:13:20Z","event":"refused","code":"InvalidArgument","reason":"no"}"#;
    let record: Record = serde_json::from_str(old).unwrap();
    let Event::Refused(refused) = &record.event else { panic!("{record:?}") };
    assert_eq!((refused.wanted, refused.count), (Wanted::Certificate, 1));
    assert_eq!(serde_json::to_string(&record).unwrap(), old);
}

#[test]
fn jwt_svids_are_records_of_the_same_chain() {
    let (issuer, roots) = ca();
    let mut book = Book::new(&issuer);
    let identity = SpiffeId::parse("spiffe://td/ns/shop/sa/reviews").unwrap();
    let audience = vec!["vault".to_owned(), "db".to_owned()];
    let (jti, requester) = ("0a".repeat(16), Requester::default());
    let svid = JwtSvid { identity, jti, audience, not_after: now(), ttl: 300, requester };
    book.put(Event::JwtSvid(Box::new(svid)));
    book.put(Event::Refused(Box::new(refusal(1, "no").of(Wanted::JwtSvid))));
    book.commit(0..1);
    let report = verify(&numbered(&book.segments), &roots).unwrap();
    assert_eq!((report.jwt_svids, report.issued, report.refused), (1, 1, 1));
    let text = String::from_utf8(book.segments[0].clone()).unwrap();
    assert!(
        text.contains(r#""event":"jwt-svid","identity":"spiffe://td/ns/shop/sa/reviews","jti":"0a0a"#),
        "{text}"
    );
    assert!(text.contains(r#""event":"refused","wanted":"jwt-svid""#), "{text}");
    let changed = text.replacen("vault", "vaults", 1).into_bytes();
    assert_eq!(verify(&[(1, changed)], &roots).unwrap_err().problem, Problem::Hash);
}

fn refusal(peer: u8, reason: &str) -> Refused {
    Refused::new("Unauthenticated", reason, Requester::stranger(Some([10, 0, 0, peer].into())))
}

#[test]
fn many_refusals_are_few_records() {
    let mut refusals = Refusals::new(Duration::minutes(1), 2);
    let at = |seconds| now() + Duration::seconds(seconds);
    assert_eq!(refusals.due(), None);
    assert_eq!(refusals.note(refusal(1, "a"), at(0)), Some(refusal(1, "a")), "the first is written as it is");
    for second in 1..1000 {
        assert_eq!(refusals.note(refusal(1, "b"), at(0) + Duration::milliseconds(second)), None);
    }
    assert!(refusals.note(refusal(2, "c"), at(2)).is_some());
    assert_eq!(refusals.note(refusal(3, "d"), at(3)), None, "there is room for two");
    assert_eq!(refusals.note(refusal(4, "d"), at(4)), None);
    let tokens = refusals.note(refusal(1, "e").of(Wanted::JwtSvid), at(5));
    assert_eq!(tokens, None, "there is no room for another kind either");
    assert_eq!(refusals.due(), Some(at(60)));
    assert_eq!(refusals.take_due(at(59)), []);
    let counts = refusals.take_due(at(60));
    let counts: Vec<_> =
        counts.iter().map(|r| (r.count, r.wanted, r.requester.peer.is_some(), r.reason.as_str())).collect();
    let further = "further callers were refused";
    let (certificates, tokens) = (Wanted::Certificate, Wanted::JwtSvid);
    let expected =
        [(2, certificates, false, further), (1, tokens, false, further), (999, certificates, true, "b")];
    assert_eq!(counts, expected);
    assert_eq!((refusals.due(), refusals.take()), (None, vec![]));
    assert!(refusals.note(refusal(1, "a"), at(61)).is_some(), "a new window");
    assert!(refusals.note(refusal(1, "a").of(Wanted::JwtSvid), at(61)).is_some(), "kinds are counted apart");
}
