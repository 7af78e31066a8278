//! The pods without sidecars: conditions that all other tests rely on.

use anyhow::Result;
use eastwest_tests::{
    app::{Talk, echoes, serve},
    bookshop::{CATALOG, Member, STOREFRONT},
    capture::Capture,
    netns::World,
    programs,
    redirection::{SIDECAR_ID, redirect},
};

#[test]
#[ignore = "needs root and stock Envoy"]
fn traffic_of_a_redirected_pod_goes_to_the_ports_of_its_sidecar() -> Result<()> {
    let world = World::new()?;
    let (inside, outside) =
        (world.connect("inside", &["10.77.0.10"])?, world.connect("outside", &["10.77.0.20"])?);
    // In place of a sidecar, a server that answers with the port at which it was reached.
    let sidecar = Member { pod: "sidecar", greeting_ports: &[15001, 15006], ports: &[], ..STOREFRONT };
    let neighbour = Member { pod: "neighbour", ports: &[9999], ..CATALOG };
    let _sidecar = serve(&inside, &sidecar, world.dir())?;
    let dir = tempfile::tempdir()?;
    let _neighbour = serve(&outside, &neighbour, dir.path())?;
    redirect(&inside)?;

    let mut out = Talk::open(&inside, "10.96.1.99", 80, &world.dir().join("out.log"))?;
    assert_eq!(out.greeting()?.0, "welcome to sidecar", "out to an address that nobody has");
    let mut back = Talk::open(&outside, "10.77.0.10", 1234, &world.dir().join("in.log"))?;
    assert_eq!(back.greeting()?.0, "welcome to sidecar", "in to a port where nobody listens");

    let mut own = inside.command_as(SIDECAR_ID, programs::testapp()?);
    own.args(["once", "10.77.0.20:9999"]);
    assert!(own.status()?.success(), "the sidecar's own traffic is left alone");
    Ok(())
}

#[test]
#[ignore = "needs root and stock Envoy"]
fn a_capture_sees_what_passes_in_plaintext() -> Result<()> {
    let world = World::new()?;
    let client = world.connect("client", &["10.77.0.10"])?;
    let server = world.connect("server", &["10.77.0.20"])?;
    let _app = serve(&server, &CATALOG, world.dir())?;

    let capture = Capture::start(world.hub(), "server", world.dir())?;
    assert!(echoes(&client, "10.77.0.20", 8080)?);
    let wire = capture.stop(world.hub(), "10.77.0.20")?;

    assert!(wire.contains("echo once")?);
    let streams = wire.streams(8080)?;
    assert_eq!((streams.count, streams.bytes), (1, "once\necho once\n".len()));
    assert_eq!(streams.not_tls, ["once\n", "echo once\n"]);
    assert!(wire.client_hellos(8080)?.is_empty());
    Ok(())
}
