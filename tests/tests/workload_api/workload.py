"""A workload in Python that lives on the SPIFFE client library alone: `workload.py WHAT SOCKET [ARGUMENTS]`.

Each line it prints is a fact that the test looks for.
"""

import hashlib
import socket
import ssl
import sys
import tempfile
import threading
import time

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from spiffe import JwtSvid, WorkloadApiClient, X509Source
from spiffe.workloadapi.errors import WorkloadApiError


def say(*words):
    print(*words, flush=True)


def fingerprint(certificate):
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def fetch(client):
    """One answer of each call of the X.509 profile."""
    svid = client.fetch_x509_svid(timeout=20)
    say("identity", svid.spiffe_id)
    same = svid.leaf.public_key().public_numbers() == svid.private_key.public_key().public_numbers()
    say("key belongs to leaf:", same)
    for bundle in client.fetch_x509_bundles(timeout=20).bundles:
        for root in bundle.x509_authorities:
            say("root of", bundle.trust_domain, fingerprint(root))


def sign(client, audience):
    """A token of the workload for one audience."""
    svid = client.fetch_jwt_svid({audience}, timeout=20)
    say("token of", svid.spiffe_id, "for", *svid.audience)
    say("token", svid.token)


def validate(client, audience, token):
    """Judged twice: by the agent, and by the library with the agent's bundles."""
    domain = JwtSvid.parse_insecure(token, {audience}).spiffe_id.trust_domain
    bundle = bundle_of(client, domain)
    say("validated", client.validate_jwt_svid(token, audience, timeout=20).spiffe_id)
    say("verified", JwtSvid.parse_and_validate(token, bundle, {audience}).spiffe_id)


def bundle_of(client, domain):
    """The bundle of a domain, which comes to the agent a moment after its start."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        bundle = client.fetch_jwt_bundles(timeout=20).get_bundle_for_trust_domain(domain)
        if bundle and bundle.jwt_authorities:
            return bundle
        time.sleep(0.1)
    sys.exit(f"no bundle of {domain} within 20 s")


def follow(client, times):
    """The stream, until the identity has been renewed so often."""
    source = X509Source(client, timeout_in_seconds=20)
    serial = lambda: source.get_x509_context().default_svid.leaf.serial_number
    say("serial", serial())
    renewed = threading.Semaphore(0)
    source.subscribe_for_updates(renewed.release)
    for _ in range(int(times)):
        if not renewed.acquire(timeout=30):
            sys.exit("no renewal within 30 s")
        say("renewed, serial", serial())
    source.close()


def context(client, side):
    """TLS with the library's chain, key and bundle; peers are told apart by SPIFFE ID, not by host name."""
    source = X509Source(client, timeout_in_seconds=20)
    svid = source.get_x509_context().default_svid
    tls = ssl.SSLContext(side)
    tls.check_hostname = False
    tls.verify_mode = ssl.CERT_REQUIRED
    bundle = source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    tls.load_verify_locations(cadata=b"".join(root.public_bytes(Encoding.DER) for root in bundle.x509_authorities))
    with tempfile.NamedTemporaryFile() as pair:
        pair.write(svid.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        for certificate in svid.cert_chain:
            pair.write(certificate.public_bytes(Encoding.PEM))
        pair.flush()
        tls.load_cert_chain(pair.name)
    return tls


def peer(stream):
    [uri] = [value for kind, value in stream.getpeercert()["subjectAltName"] if kind == "URI"]
    return uri


def serve(client):
    """Greets one peer by its SPIFFE ID."""
    tls = context(client, ssl.PROTOCOL_TLS_SERVER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        say("listening", listener.getsockname()[1])
        stream, _ = listener.accept()
        with tls.wrap_socket(stream, server_side=True) as stream:
            say("client is", peer(stream))
            stream.sendall(f"hello {peer(stream)}\n".encode())


def call(client, port):
    """Calls a server and tells who it is."""
    tls = context(client, ssl.PROTOCOL_TLS_CLIENT)
    with tls.wrap_socket(socket.create_connection(("127.0.0.1", int(port)), timeout=20)) as stream:
        say("server is", peer(stream))
        say("it says", stream.makefile().readline().strip())


def refused(client):
    """The error of a workload without identity."""
    try:
        client.fetch_x509_svid(timeout=20)
        sys.exit("served")
    except WorkloadApiError as error:
        say("refused:", error)


if __name__ == "__main__":
    what, path, *arguments = sys.argv[1:]
    globals()[what](WorkloadApiClient(f"unix:{path}"), *arguments)
