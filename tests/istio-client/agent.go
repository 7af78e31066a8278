package main

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pkg/config/constants"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/envoy"
	agent "istio.io/istio/pkg/istio-agent"
	"istio.io/istio/pkg/model"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/credentialfetcher"
	"istio.io/istio/security/pkg/nodeagent/sds"
)

// The whole agent but for the start of Envoy: Envoy's secrets are at ./var/run/secrets/workload-spiffe-uds/socket, and
// its configuration, which the agent passes on, is at ./etc/istio/proxy/XDS. It ends with SIGTERM.
func serve(discovery, pod, ip string) (err error) {
	if options.CredFetcher, err = credentialfetcher.NewCredFetcher(security.JWT, "", *token, ""); err != nil {
		return err
	}
	options.PilotCertProvider = constants.CertProviderIstiod
	proxy := agent.Proxy{
		Type:        model.SidecarProxy,
		ID:          pod + "." + options.WorkloadNamespace,
		IPAddresses: []string{ip},
		DNSDomain:   options.WorkloadNamespace + ".svc." + constants.DefaultClusterLocalDomain,
	}
	config := mesh.DefaultProxyConfig()
	config.DiscoveryAddress = discovery
	config.ControlPlaneAuthPolicy = meshconfig.AuthenticationPolicy_MUTUAL_TLS
	settings := agent.AgentOptions{
		XDSRootCerts:               *root,
		CARootCerts:                *root,
		XdsUdsPath:                 constants.ConfigPathDir + "/XDS",
		ProxyType:                  proxy.Type,
		ProxyNamespace:             options.WorkloadNamespace,
		ProxyDomain:                proxy.DNSDomain,
		ProxyIPAddresses:           proxy.IPAddresses,
		ServiceNode:                proxy.ServiceNode(),
		WorkloadIdentitySocketFile: security.DefaultWorkloadIdentitySocketFile,
		SDSFactory: func(o *security.Options, m security.SecretManager, key *meshconfig.PrivateKeyProvider) agent.SDSService {
			return sds.NewServer(o, m, key)
		},
	}
	running := agent.NewAgent(config, &settings, &options, envoy.ProxyConfig{TestOnly: true})
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if _, err := running.Run(ctx); err != nil {
		return err
	}
	defer running.Close()
	fmt.Println("the agent runs as", settings.ServiceNode)
	<-ctx.Done()
	return nil
}
