//! A root and a CA below it, made with OpenSSL as people make them.

use std::{fs, path::Path, process::Command};

use eastwest_ca::{ServingName, pem, plugged::PluggedFiles};
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

/// The command's output, if it succeeded.
pub(crate) fn openssl(args: &[&str]) -> Result<String, String> {
    let output = Command::new("openssl").args(args).output().map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(text.into_owned()) } else { Err(text.into_owned()) }
}

/// Their files: `root.pem`, `root.key`, `ca.pem`, `ca.key`.
pub(crate) struct Pki {
    dir: tempfile::TempDir,
}

impl Pki {
    /// With these extensions besides the usual ones.
    pub(crate) fn new(root: &[&str], intermediate: &[&str]) -> Self {
        Self::with(root, intermediate)
    }

    /// Lines with `=` are extensions, in place of the usual one of that name; words with a dash are options: `-no-usage`,
    /// `-sha1`, `-expired`, `-future`, `-rsa BITS`.
    pub(crate) fn with(root: &[&str], intermediate: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = Self { dir };
        pki.make("root", "/CN=Root", root, None);
        pki.make("ca", "/CN=Mesh CA", intermediate, Some("root"));
        pki
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    fn read(&self, name: &str) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(fs::read(self.dir.path().join(name)).unwrap())
    }

    /// As somebody plugs them in.
    pub(crate) fn files(&self) -> PluggedFiles {
        [
            ("ca-cert.pem", "ca.pem"),
            ("ca-key.pem", "ca.key"),
            ("cert-chain.pem", "ca.pem"),
            ("root-cert.pem", "root.pem"),
        ]
        .into_iter()
        .map(|(name, file)| (name, self.read(file)))
        .collect()
    }

    fn make(&self, name: &str, subject: &str, wanted: &[&str], signer: Option<&str>) {
        let option = |option: &str| wanted.iter().position(|word| *word == option);
        let usual = [
            "basicConstraints=critical,CA:TRUE",
            "keyUsage=critical,keyCertSign,cRLSign",
            "subjectKeyIdentifier=hash",
        ];
        let named = |line: &str| line.split_once('=').map(|(name, _)| name.to_owned());
        let kept = usual.into_iter().filter(|line| !wanted.iter().any(|other| named(other) == named(line)));
        let kept = kept.filter(|line| option("-no-usage").is_none() || !line.starts_with("keyUsage"));
        let extensions: Vec<_> =
            kept.chain(wanted.iter().copied().filter(|word| word.contains('='))).collect();
        let config = self.path(&format!("{name}.cnf"));
        let there = "[there]\nO=Example\n[req]\ndistinguished_name=there\n";
        fs::write(&config, format!("[ext]\n{}\n{there}", extensions.join("\n"))).unwrap();
        let (key, csr, certificate) =
            (self.path(&format!("{name}.key")), self.path("csr"), self.path(&format!("{name}.pem")));
        match option("-rsa") {
            Some(at) => run(&["genrsa", "-out", &key, wanted[at + 1]]),
            None => {
                run(&["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", &key])
            }
        }
        run(&["req", "-new", "-config", &config, "-key", &key, "-subj", subject, "-out", &csr]);
        let digest = if option("-sha1").is_some() { "-sha1" } else { "-sha256" };
        let mut sign = vec!["x509", "-req", "-in", &csr, "-out", &certificate, digest];
        sign.extend(["-extfile", &config, "-extensions", "ext"]);
        let (above, above_key);
        match signer {
            Some(signer) => {
                (above, above_key) =
                    (self.path(&format!("{signer}.pem")), self.path(&format!("{signer}.key")));
                sign.extend(["-CA", &above, "-CAkey", &above_key, "-CAcreateserial"]);
            }
            None => sign.extend(["-signkey", &key]),
        }
        sign.extend(["-days", "30"]);
        run(&sign);
        for (word, from, until) in [
            ("-expired", "20200101000000Z", "20210101000000Z"),
            ("-future", "20400101000000Z", "20410101000000Z"),
        ] {
            if option(word).is_some() {
                self.issue_for(name, signer.unwrap_or(name), (from, until));
            }
        }
    }

    /// Issues a certificate again, for other times.
    fn issue_for(&self, name: &str, signer: &str, (from, until): (&str, &str)) {
        let file = |name: &str| self.path(name);
        let (database, serial) = (file("database"), file("serial"));
        fs::write(&database, "").unwrap();
        fs::write(&serial, "0a").unwrap();
        let config = file("ca.conf");
        let section = format!(
            "[ca]\ndefault_ca=it\n[it]\ndatabase={database}\nserial={serial}\nnew_certs_dir={}\npolicy=any\ndefault_md=sha256\n\
             [any]\ncommonName=supplied\n",
            self.dir.path().display()
        );
        fs::write(&config, section).unwrap();
        let (certificate, key, extensions, out) = (
            file(&format!("{signer}.pem")),
            file(&format!("{signer}.key")),
            file(&format!("{name}.cnf")),
            file("new.pem"),
        );
        run(&[
            "ca",
            "-batch",
            "-notext",
            "-config",
            &config,
            "-cert",
            &certificate,
            "-keyfile",
            &key,
            "-in",
            &file("csr"),
            "-out",
            &out,
            "-startdate",
            from,
            "-enddate",
            until,
            "-extfile",
            &extensions,
            "-extensions",
            "ext",
        ]);
        fs::rename(out, file(&format!("{name}.pem"))).unwrap();
    }

    /// Verifies a chain, leaf first, as OpenSSL does, for a server under that name.
    pub(crate) fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: &str,
        name: Option<&ServingName>,
    ) -> Result<String, String> {
        let write = |file: &str, certificates: &[CertificateDer<'_>]| {
            let text: String = certificates.iter().map(|der| pem::encode(pem::CERTIFICATE, der)).collect();
            fs::write(Path::new(&self.path(file)), text).unwrap();
            self.path(file)
        };
        let (leaf, above) = (write("leaf", &chain[..1]), write("above", &chain[1..]));
        let name = name.map(ToString::to_string);
        let root = self.path("root.pem");
        let mut args = vec!["verify", "-purpose", purpose, "-CAfile", &root, "-untrusted", &above];
        if let Some(name) = &name {
            let is_ip = name.parse::<std::net::IpAddr>().is_ok();
            args.extend([if is_ip { "-verify_ip" } else { "-verify_hostname" }, name]);
        }
        args.push(&leaf);
        openssl(&args)
    }
}

fn run(args: &[&str]) {
    openssl(args).unwrap_or_else(|error| panic!("openssl {args:?}: {error}"));
}
