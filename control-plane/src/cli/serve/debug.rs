//! Who may see the debug pages.

use clap::Args;

use crate::serve::DebugAccess;

/// The flag of the debug pages.
#[derive(Debug, Args)]
pub(crate) struct DebugArgs {
    /// Who may see the pages below /debug/ on the HTTP port, which name all workloads and policies. Health, metrics, version and
    /// the trust bundle are for everybody.
    #[arg(long, value_name = "WHO", value_enum, default_value = "local", env = "EASTWEST_DEBUG_ACCESS")]
    pub(crate) debug_access: DebugAccess,
}
