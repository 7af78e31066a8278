//! `cargo xtask proto`: the Rust code and the descriptor set of the `proto` crate.
//!
//! .proto text (of the xDS API and our own) → [`source`] compiles → [`prune`] keeps what
//! [`allow`] names → [`generate`] writes Rust. Every step is deterministic, so the output is
//! checked in and `--check` compares bytes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::workspace_root;

mod allow;
mod generate;
mod prune;
mod source;

/// What to do with the generated files.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail when the checked-in files differ from what would be generated.
    #[arg(long)]
    check: bool,
    /// Print the fields that are left out, then end.
    #[arg(long, conflicts_with = "check")]
    list_dropped: bool,
}

/// File name → content of everything under `proto/src/gen`.
type Output = BTreeMap<PathBuf, Vec<u8>>;

/// Generates the `proto` crate, or with `--check` compares.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let crate_dir = workspace_root()?.join("proto");
    let allow_file = crate_dir.join("messages.txt");
    let text =
        fs::read_to_string(&allow_file).with_context(|| format!("cannot read {}", allow_file.display()))?;
    let allowed = allow::AllowList::parse(&text).with_context(|| allow_file.display().to_string())?;

    let full = source::compile(&crate_dir.join("proto"), &allowed)?;
    let pruned = prune::prune(full, &allowed)?;
    if args.list_dropped {
        for field in &pruned.dropped {
            println!("{field}");
        }
        return Ok(());
    }

    let output = generate::generate(&pruned.files)?;
    let target = crate_dir.join("src/gen");
    if args.check { check(&target, &output) } else { write(&target, &output) }
}

/// Names of the files in `dir`.
fn existing(dir: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        names.push(PathBuf::from(entry?.file_name()));
    }
    names.sort();
    Ok(names)
}

fn check(target: &Path, output: &Output) -> anyhow::Result<()> {
    let mut stale = Vec::new();
    for (name, content) in output {
        if fs::read(target.join(name)).ok().as_ref() != Some(content) {
            stale.push(format!("{} differs", name.display()));
        }
    }
    for name in existing(target)? {
        if !output.contains_key(&name) {
            stale.push(format!("{} is no longer generated", name.display()));
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "{} is not what its sources give; run `cargo xtask proto` and commit:\n  {}",
        target.display(),
        stale.join("\n  ")
    )
}

fn write(target: &Path, output: &Output) -> anyhow::Result<()> {
    fs::create_dir_all(target)?;
    for name in existing(target)? {
        if !output.contains_key(&name) {
            fs::remove_file(target.join(&name))?;
        }
    }
    for (name, content) in output {
        let path = target.join(name);
        // An unchanged file keeps its time stamp, so that cargo does not rebuild for it.
        if fs::read(&path).ok().as_ref() != Some(content) {
            fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    println!("{}: {} files", target.display(), output.len());
    Ok(())
}
