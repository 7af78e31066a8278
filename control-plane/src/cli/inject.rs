//! `eastwest inject`: sidecars for the pods of manifests, without a cluster.

use std::{io::Read as _, path::PathBuf};

use anyhow::Context as _;
use clap::Args;
use eastwest_inject::{Options, Outcome, process};
use eastwest_model::names::is_dns_label;
use serde_json::{Value, json};

use super::{Exit, Failure, Mistyped, Result};
use crate::{
    config::Problems,
    output::{Format, OutputArgs, table, write_out},
};

/// The arguments of `eastwest inject`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  eastwest inject -f deployment.yaml | kubectl apply -f -\n  \
    eastwest inject -f deployment.yaml -n shop --explain")]
pub(crate) struct InjectArgs {
    /// Manifests, YAML or JSON; - is standard input (repeatable).
    #[arg(short, long, value_name = "FILE", required = true, env = "EASTWEST_INJECT_FILE")]
    file: Vec<PathBuf>,
    /// Namespace of objects that name none.
    #[arg(
        short,
        long,
        value_name = "NAMESPACE",
        default_value = "default",
        env = "EASTWEST_QUERY_NAMESPACE"
    )]
    namespace: String,
    /// Print which label, annotation or field decided for each object, and no manifests.
    #[arg(long, env = "EASTWEST_INJECT_EXPLAIN")]
    explain: bool,
    /// Image of the sidecar.
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "eastwest/proxy:latest",
        env = "EASTWEST_INJECT_IMAGE"
    )]
    image: String,
    /// TLS address of the control plane.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "eastwest.istio-system.svc:15012",
        env = "EASTWEST_CONTROL_PLANE"
    )]
    control_plane: String,
    /// Name of the cluster.
    #[arg(long, value_name = "ID", default_value = "Kubernetes", env = "EASTWEST_CLUSTER_ID")]
    cluster_id: String,
    /// The revision whose labels istio.io/rev count.
    #[arg(long, value_name = "REVISION", default_value = "default", env = "EASTWEST_REVISION")]
    revision: String,
    /// Make the sidecar an init container that keeps running, as clusters from 1.29 on have it.
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        env = "EASTWEST_NATIVE_SIDECAR"
    )]
    native_sidecar: bool,
    /// A partial Pod, or a ConfigMap with one in the key template, that is merged over the default template.
    #[arg(long, value_name = "FILE", env = "EASTWEST_INJECT_TEMPLATE")]
    template: Option<PathBuf>,
    #[command(flatten)]
    output: OutputArgs,
}

impl InjectArgs {
    pub(super) fn run(self) -> Result {
        let mut problems = Problems::default();
        if !is_dns_label(&self.namespace) {
            problems.add("--namespace", format!("{:?} is not the name of a namespace", self.namespace));
        }
        let options = self.options(&mut problems)?;
        let objects = self.objects(&mut problems)?;
        let mut objects = if problems.is_empty() { objects } else { return Err(Failure::Usage(problems)) };
        let outcomes = process(&mut objects, &self.namespace, &options);
        for outcome in &outcomes {
            for warning in &outcome.warnings {
                eastwest_io::stdio::stderr().line(&format!("warning: {}: {warning}", outcome.object));
            }
        }
        let refused: Vec<_> = outcomes.iter().flat_map(refusals).collect();
        if self.explain {
            self.output.print(&explained(&outcomes), |_| explanation(&outcomes))?;
        } else if refused.is_empty() {
            self.print(&objects)?;
        }
        for refusal in &refused {
            eastwest_io::stdio::stderr().line(&format!("error: {refusal}"));
        }
        Ok(if refused.is_empty() { Exit::Success } else { Exit::Negative })
    }

    fn options(&self, problems: &mut Problems) -> Result<Options> {
        let template = match &self.template {
            Some(path) => problems.take("--template", template(&read(path)?, &path.to_string_lossy())),
            None => None,
        };
        Ok(Options {
            image: self.image.clone(),
            control_plane: self.control_plane.clone(),
            cluster_id: self.cluster_id.clone(),
            revision: self.revision.clone(),
            native_sidecar: self.native_sidecar,
            template,
        })
    }

    /// All documents of all files.
    fn objects(&self, problems: &mut Problems) -> Result<Vec<Value>> {
        let mut objects = Vec::new();
        for path in &self.file {
            let file = path.to_string_lossy();
            for document in eastwest_manifest::documents(&read(path)?, &file) {
                match document {
                    Ok(object) => objects.push(object),
                    Err((line, mistake)) => problems.add(&format!("{file}:{line}"), mistake),
                }
            }
        }
        Ok(objects)
    }

    fn print(&self, objects: &[Value]) -> anyhow::Result<()> {
        match (self.output.output, objects) {
            (Format::Json, [object]) => write_out(&serde_json::to_string_pretty(object)?),
            (Format::Json, objects) => {
                let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
                write_out(&serde_json::to_string_pretty(&list)?)
            }
            _ => {
                let documents: std::result::Result<Vec<_>, _> =
                    objects.iter().map(serde_saphyr::to_string).collect();
                write_out(documents?.join("---\n").trim_end())
            }
        }
    }
}

fn read(path: &PathBuf) -> anyhow::Result<String> {
    if path.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    if path.is_dir() {
        return Err(
            Mistyped(format!("{} is a directory: name its files, each after -f", path.display())).into()
        );
    }
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// The partial Pod of a template file.
fn template(text: &str, file: &str) -> std::result::Result<Value, String> {
    let one = |text: &str| {
        let mut documents = eastwest_manifest::documents(text, file).into_iter();
        match (documents.next(), documents.next()) {
            (Some(Ok(value)), None) if value.is_object() => Ok(value),
            (Some(Err((line, mistake))), _) => Err(format!("line {line}: {mistake}")),
            _ => Err("has to be one document, a partial Pod".to_owned()),
        }
    };
    let value = one(text)?;
    let value = match value["kind"].as_str() {
        Some("ConfigMap") => {
            one(value["data"]["template"].as_str().ok_or("the ConfigMap has no key template")?)?
        }
        _ => value,
    };
    match value["spec"].is_object() || value["metadata"].is_object() {
        true => Ok(value),
        false => Err("has neither metadata nor spec; write a partial Pod".to_owned()),
    }
}

fn refusals(outcome: &Outcome) -> Vec<String> {
    outcome.mistakes.iter().map(|mistake| format!("{}: {mistake}", outcome.object)).collect()
}

fn answer(outcome: &Outcome) -> (&'static str, String) {
    match &outcome.decision {
        _ if !outcome.mistakes.is_empty() => ("refused", refusals(outcome).join("; ")),
        Some(decision) if decision.inject => ("yes", decision.because.clone()),
        Some(decision) => ("no", decision.because.clone()),
        None => ("no", "it makes no pods".to_owned()),
    }
}

fn explained(outcomes: &[Outcome]) -> Value {
    let row = |outcome: &Outcome| {
        let (sidecar, because) = answer(outcome);
        json!({"object": outcome.object, "sidecar": sidecar, "decided_by": because, "warnings": outcome.warnings})
    };
    outcomes.iter().map(row).collect()
}

fn explanation(outcomes: &[Outcome]) -> String {
    if outcomes.is_empty() {
        return "nothing here makes pods".to_owned();
    }
    let row = |outcome: &Outcome| {
        let (sidecar, because) = answer(outcome);
        [outcome.object.clone(), sidecar.to_owned(), because]
    };
    table(["OBJECT", "SIDECAR", "DECIDED BY"], outcomes.iter().map(row))
}
