#!/bin/sh
# Makes the certification requests of this folder anew, with OpenSSL 3. Their private keys are thrown away.
set -eu
cd "$(dirname "$0")"
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT

# NAME KEY-OPTIONS -- REQ-OPTIONS
request() {
    name=$1 options=
    shift
    while [ "$1" != -- ]; do options="$options $1"; shift; done
    shift
    openssl genpkey $options -out "$dir/key" 2>/dev/null
    openssl req -new -key "$dir/key" -subj / -out "$name.pem" "$@"
}
ec="-algorithm EC -pkeyopt ec_param_enc:named_curve -pkeyopt ec_paramgen_curve"
request p256 $ec:P-256 -- -sha256
request p256-sha384 $ec:P-256 -- -sha384
request p384 $ec:P-384 -- -sha384
request p384-sha256 $ec:P-384 -- -sha256
request ed25519 -algorithm ED25519 --
request rsa2048 -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -- -sha256
request rsa3072-sha384 -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -- -sha384
request rsa2048-sha512 -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -- -sha512
request ca-true $ec:P-256 -- -sha256 -addext basicConstraints=critical,CA:TRUE,pathlen:0 \
    -addext keyUsage=critical,keyCertSign,cRLSign
request other-names $ec:P-256 -- -sha256 -subj /CN=istiod.istio-system.svc \
    -addext "subjectAltName=URI:spiffe://cluster.local/ns/kube-system/sa/admin,URI:spiffe://cluster.local/ns/a/sa/b,DNS:istiod.istio-system.svc"

request bad-rsa1024 -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -- -sha256
request bad-rsa2048-e3 -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -pkeyopt rsa_keygen_pubexp:3 -- -sha256
request bad-rsa2048-sha1 -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -- -sha1
request bad-rsa2048-pss -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -- -sha256 -sigopt rsa_padding_mode:pss
request bad-p521 $ec:P-521 -- -sha512
request bad-p224 $ec:secp224r1 -- -sha256
request bad-secp256k1 $ec:secp256k1 -- -sha256
request bad-p256-sha1 $ec:P-256 -- -sha1
request bad-p256-explicit -algorithm EC -pkeyopt ec_param_enc:explicit -pkeyopt ec_paramgen_curve:P-256 -- -sha256
request bad-ed448 -algorithm ED448 --

openssl ecparam -name prime256v1 -genkey -noout -out "$dir/named"
openssl ec -in "$dir/named" -conv_form compressed -out "$dir/key" 2>/dev/null
openssl req -new -key "$dir/key" -subj / -sha256 -out bad-p256-compressed.pem
openssl dsaparam -out "$dir/dsa" 2048 2>/dev/null
openssl gendsa -out "$dir/key" "$dir/dsa" 2>/dev/null
openssl req -new -key "$dir/key" -subj / -sha256 -out bad-dsa.pem
