use super::*;

#[tokio::test]
async fn a_socket_of_a_dead_agent_is_replaced_and_anything_else_respected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sds.sock");
    drop(bind(&path).await.unwrap());
    assert!(path.exists(), "the dead leave their socket");
    let alive = bind(&path).await.unwrap();
    assert!(matches!(bind(&path).await, Err(SocketError::InUse(_))));
    drop(alive);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(bind(&path).await, Err(SocketError::NotASocket(_))));
    let error = bind(&dir.path().join("missing/sds.sock")).await.unwrap_err();
    assert!(error.to_string().contains("--dir"), "{error}");
}
