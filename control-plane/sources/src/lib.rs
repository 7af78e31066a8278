//! Where the world comes from: Kubernetes manifests in a directory, parsed and followed.
