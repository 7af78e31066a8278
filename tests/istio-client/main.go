// Istio's agent as far as certificates go: its secret manager and its client of the CA, unchanged, without
// Envoy. It prints a line of JSON for each certificate that it accepted, and ends after -count of them. With -discovery
// it is the whole agent.
package main

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/credentialfetcher"
	"istio.io/istio/security/pkg/nodeagent/cache"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
	pki "istio.io/istio/security/pkg/pki/util"
)

var (
	root     = flag.String("root", "", "trust anchor for the authority (CA_ROOT_CA)")
	token    = flag.String("token", "", "file with the service account's token; none: a certificate must do")
	patience = flag.Duration("patience", time.Minute, "longest wait for a renewal")
	count    = flag.Int("count", 1, "end after so many certificates")
	// The agent's defaults.
	options = security.Options{
		CAProviderName:                       "Citadel",
		ClusterID:                            "Kubernetes",
		TrustDomain:                          "cluster.local",
		WorkloadRSAKeySize:                   2048,
		SecretRotationGracePeriodRatio:       0.5,
		SecretRotationGracePeriodRatioJitter: 0.01,
	}
)

func main() {
	flag.StringVar(&options.CAEndpoint, "ca", "", "HOST:PORT of the authority (CA_ADDR)")
	flag.StringVar(&options.CAEndpointSAN, "ca-name", "", "name that it must have")
	flag.StringVar(&options.ProvCert, "prov-cert", "", "directory of a certificate to show to it (PROV_CERT)")
	flag.StringVar(&options.OutputKeyCertToDir, "out", "", "directory for key and certificates (OUTPUT_CERTS)")
	flag.StringVar(&options.WorkloadNamespace, "namespace", "", "namespace of the workload")
	flag.StringVar(&options.ServiceAccount, "service-account", "", "its service account")
	flag.DurationVar(&options.SecretTTL, "ttl", 24*time.Hour, "life to ask for (SECRET_TTL)")
	flag.StringVar(&options.ECCSigAlg, "ecc", "", "ECDSA instead of RSA keys (ECC_SIGNATURE_ALGORITHM)")
	flag.StringVar(&options.ECCCurve, "curve", "P256", "with this curve (ECC_CURVE)")
	discovery := flag.String("discovery", "", "HOST:PORT of xDS: be the whole agent of a pod instead (PROXY_CONFIG)")
	pod := flag.String("pod", "", "name of that pod (POD_NAME)")
	ip := flag.String("ip", "", "its address (INSTANCE_IP)")
	flag.Parse()
	work := run
	if *discovery != "" {
		work = func() error { return serve(*discovery, *pod, *ip) }
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run() (err error) {
	if options.CredFetcher, err = credentialfetcher.NewCredFetcher(security.JWT, "", *token, ""); err != nil {
		return err
	}
	trust := &citadel.TLSOptions{RootCert: *root}
	if dir := options.ProvCert; dir != "" {
		trust.Key, trust.Cert = filepath.Join(dir, "key.pem"), filepath.Join(dir, "cert-chain.pem")
	}
	client, err := citadel.NewCitadelClient(&options, trust)
	if err != nil {
		return err
	}
	manager, err := cache.NewSecretManagerClient(client, &options)
	if err != nil {
		return err
	}
	defer manager.Close()
	due := make(chan struct{}, 1)
	manager.RegisterSecretHandler(func(resource string) {
		if resource == security.WorkloadKeyCertResourceName {
			due <- struct{}{}
		}
	})
	for held := 1; ; held++ {
		if err := accept(manager); err != nil || held == *count {
			return err
		}
		select {
		case <-due:
		case <-time.After(*patience):
			return errors.New("the secret manager renews nothing")
		}
	}
}

// The secret for Envoy, and the result of Istio's own checks.
func accept(manager *cache.SecretManagerClient) error {
	workload, err := manager.GenerateSecret(security.WorkloadKeyCertResourceName)
	if err != nil {
		return err
	}
	anchor, err := manager.GenerateSecret(security.RootCertReqResourceName)
	if err != nil {
		return err
	}
	leaf, err := pki.ParsePemEncodedCertificate(workload.CertificateChain)
	if err != nil {
		return err
	}
	expected := pki.VerifyFields{
		Host: fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", options.TrustDomain, options.WorkloadNamespace,
			options.ServiceAccount),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		KeyUsage:    x509.KeyUsageDigitalSignature,
	}
	if leaf.PublicKeyAlgorithm == x509.RSA {
		expected.KeyUsage |= x509.KeyUsageKeyEncipherment
	}
	err = pki.VerifyCertificate(workload.PrivateKey, workload.CertificateChain, anchor.RootCert, &expected)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"uri": leaf.URIs[0].String(), "serial": leaf.SerialNumber.Text(16), "key": leaf.PublicKeyAlgorithm.String(),
		"expires": leaf.NotAfter, "roots": len(pki.PemCertBytestoString(anchor.RootCert)),
	})
}
