//! The ConfigMap with the settings of the mesh, and why it is refused.

use eastwest_model::{Diagnostic, Kind, MeshConfig, ObjectRef, Severity, mesh::MESH_CONFIG_MAP};

/// What names it.
pub(super) fn settings_of(mesh: &MeshConfig) -> ObjectRef {
    ObjectRef::new(Kind::ConfigMap, mesh.root_namespace.clone(), MESH_CONFIG_MAP)
}

/// Its mistakes, each with the field; `None` if it has none.
pub(super) fn refused_settings(found: &[Diagnostic], mesh: &MeshConfig) -> Option<String> {
    let name = settings_of(mesh).to_string();
    let errors = found.iter().filter(|one| one.severity == Severity::Error && one.object == name);
    let errors: Vec<_> = errors
        .map(|one| match one.origin.file {
            Some(_) => format!("{} ({}): {}", one.field, one.origin, one.message),
            None => format!("{}: {}", one.field, one.message),
        })
        .collect();
    (!errors.is_empty()).then(|| errors.join("; "))
}
