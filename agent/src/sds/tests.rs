use super::*;

#[tokio::test]
async fn a_socket_of_a_dead_agent_is_replaced_and_anything_else_respected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sds.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the killed leave their socket");
    let alive = Socket::bind(path.clone()).await.unwrap();
    assert!(matches!(Socket::bind(path.clone()).await, Err(SocketError::InUse(_))));
    drop(alive);
    assert!(!path.exists(), "those who end in order do not");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Socket::bind(path.clone()).await, Err(SocketError::NotASocket(_))));
    assert!(path.exists());
    let error = Socket::bind(dir.path().join("missing/sds.sock")).await.err().unwrap();
    assert!(error.to_string().contains("--dir"), "{error}");
}
