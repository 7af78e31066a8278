//! Games with PEM: labels, lines, padding, sizes.

use eastwest_ca::{
    CsrError::{self, Malformed, Pem, TooLarge},
    csr::MAX_CSR_BYTES,
    pem::{
        self,
        PemError::{Base64, Begin, End, Trailing},
    },
};

use super::{Attack, LABEL, Request};

pub(super) fn attacks() -> Vec<Attack> {
    [labels(), lines(), base64(), sizes()].into_iter().flatten().collect()
}

fn text(name: &'static str, text: impl Into<String>, outcome: Result<(), CsrError>) -> Attack {
    Attack { name, text: text.into(), outcome }
}

fn good() -> String {
    pem::encode(LABEL, &Request::new().der())
}

fn labels() -> Vec<Attack> {
    let (good, begin, end) = (good(), Err(Pem(Begin(LABEL))), Err(Pem(End(LABEL))));
    let renamed = |label: &str| good.replace(LABEL, label);
    let secret = eastwest_ca::PrivateKey::generate().unwrap().to_pem();
    vec![
        text("nothing", "", begin.clone()),
        text("white space", " \r\n\t", begin.clone()),
        text("the label of old", renamed("NEW CERTIFICATE REQUEST"), Ok(())),
        text("the label of a certificate", renamed("CERTIFICATE"), begin.clone()),
        text("a label in lower case", renamed("certificate request"), begin.clone()),
        text("a label with two spaces", renamed("CERTIFICATE  REQUEST"), begin.clone()),
        text("a private key, by mistake", secret.as_str(), begin.clone()),
        text("four dashes", good.replace("-----", "----"), begin.clone()),
        text("long dashes", good.replace("-----", "—————"), begin.clone()),
        text("a byte order mark", format!("\u{feff}{good}"), begin.clone()),
        text("text before it", format!("Subject: me\n{good}"), begin),
        text("text after it", format!("{good}bye"), Err(Pem(Trailing))),
        text("two blocks", format!("{good}{good}"), Err(Pem(Trailing))),
        text(
            "an end of another label",
            good.replace("END CERTIFICATE REQUEST", "END CERTIFICATE"),
            end.clone(),
        ),
        text("no end", good.split("-----END").next().unwrap(), end.clone()),
        text("an end that breaks off", good.trim_end().trim_end_matches('-'), end),
        text(
            "a beginning inside",
            good.replacen('\n', "\n-----BEGIN CERTIFICATE REQUEST-----\n", 1),
            Err(Pem(Base64)),
        ),
    ]
}

fn lines() -> Vec<Attack> {
    let good = good();
    let body = good.lines().filter(|line| !line.starts_with('-')).collect::<String>();
    let spaced: String = body.chars().flat_map(|c| [c, ' ']).collect();
    let block = |body: &str| format!("-----BEGIN {LABEL}-----\n{body}\n-----END {LABEL}-----\n");
    let broken = Err(Pem(Base64));
    vec![
        text("lines that end as on Windows", good.replace('\n', "\r\n"), Ok(())),
        text("lines that end as on old Macs", good.replace('\n', "\r"), Ok(())),
        text("no newline at the end", good.trim_end(), Ok(())),
        text("all in one line", block(&body), Ok(())),
        text("no line breaks at all", block(&body).replace('\n', ""), Ok(())),
        text("spaces between all characters", block(&spaced), Ok(())),
        text("empty lines around", format!("\n\n{good}\n\n"), Ok(())),
        text("a header", block(&format!("Proc-Type: 4,ENCRYPTED\n\n{body}")), broken.clone()),
        text("a comment", block(&format!("# request\n{body}")), broken.clone()),
        text("a vertical tab", block(&body.replacen('M', "\u{b}M", 1)), broken.clone()),
        text("a NUL", block(&body.replacen('M', "\0M", 1)), broken.clone()),
        text("a NUL at the end", format!("{good}\0"), Err(Pem(Trailing))),
        text("a zero-width space", block(&body.replacen('M', "\u{200b}M", 1)), broken.clone()),
        text("letters that look alike", block(&body.replacen('M', "\u{41c}", 1)), broken),
    ]
}

fn base64() -> Vec<Attack> {
    let block = |body: &str| format!("-----BEGIN {LABEL}-----\n{body}\n-----END {LABEL}-----\n");
    let broken = Err(Pem(Base64));
    vec![
        text("an empty block", block(""), Err(Malformed)),
        text("zero bytes in disguise", block("===="), broken.clone()),
        text("padding that is missing", block("MAA"), broken.clone()),
        text("padding too much", block("MAAA===="), broken.clone()),
        text("padding in the middle", block("MA==MA=="), broken.clone()),
        text("bits after the last byte", block("MAB="), broken.clone()),
        text("base64 for URLs", block("MA-_"), broken.clone()),
        text("hexadecimal, and odd", block("30820"), broken.clone()),
        text("two bytes of DER", block("MAA="), Err(Malformed)),
        text("a certificate inside", block(&"MIIB".repeat(30)), Err(Malformed)),
        text("a percent sign", block("MA%3D"), broken),
    ]
}

fn sizes() -> Vec<Attack> {
    let good = good();
    let filled = |size: usize| format!("{good}{}", "\n".repeat(size - good.len()));
    let large = pem::encode(LABEL, &vec![0x30; MAX_CSR_BYTES]);
    let just = pem::encode(LABEL, &[0x30; 48_000]);
    assert!(just.len() < MAX_CSR_BYTES, "{}", just.len());
    vec![
        text("64 KiB to the byte", filled(MAX_CSR_BYTES), Ok(())),
        text("one byte more", filled(MAX_CSR_BYTES + 1), Err(TooLarge(MAX_CSR_BYTES + 1))),
        text("64 KiB of DER", large.clone(), Err(TooLarge(large.len()))),
        text("just as much as is read", just, Err(Malformed)),
        text("3 MiB of one letter", "M".repeat(3 << 20), Err(TooLarge(3 << 20))),
        text("3 MiB of dashes", "-".repeat(3 << 20), Err(TooLarge(3 << 20))),
    ]
}
