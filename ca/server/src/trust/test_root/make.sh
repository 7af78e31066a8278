#!/usr/bin/env bash
# Makes the insecure test root: a P-256 key and its certificate, from 2020 to 2120, for `eastwest ca serve
# --insecure-test-root`. Once made it stays: golden tests elsewhere name its fingerprint.
set -euo pipefail
cd "$(dirname "$0")"
if [ -e root-cert.pem ]; then
    echo "root-cert.pem is there and shall stay" >&2
    exit 1
fi
ca=$(mktemp -d)
trap 'rm -r "$ca"' EXIT
touch "$ca/index"
cat >"$ca/config" <<CONFIG
[ca]
default_ca = test
[test]
database = $ca/index
new_certs_dir = $ca
default_md = sha256
policy = any
[any]
commonName = supplied
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
CONFIG
echo 65617374776573742d746573742d726f >"$ca/serial"
sed -i "/default_md/a serial = $ca/serial" "$ca/config"
openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out root-key.pem 2>/dev/null
openssl req -new -key root-key.pem -subj "/CN=eastwest INSECURE TEST ROOT" -out "$ca/csr"
openssl ca -batch -notext -selfsign -config "$ca/config" -extensions root -keyfile root-key.pem -in "$ca/csr" \
    -startdate 20200101000000Z -enddate 21200101000000Z -out root-cert.pem 2>/dev/null
