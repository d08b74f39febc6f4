// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cryopod/cryopod/test/e2e/cluster/machine"
)

const (
	// dnsReady is where the DNS server says, within the control plane alone, that it knows all Services.
	dnsReady = "127.0.0.1:8181"
	// attempt bounds one try to reach something.
	attempt = 2 * time.Second
	// authorityMap is the ConfigMap that every pod mounts to trust the API server.
	authorityMap = "kube-root-ca.crt"
)

// awaitServices returns when pods can be created and will find each other: a node is ready before all of that is there.
func (s *starter) awaitServices(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return waitAccount(ctx, s.client) })
	for _, m := range s.machines {
		if m.Spec.Name == controlPlaneName {
			group.Go(func() error { return waitDNS(ctx, m) })
			continue
		}
		for _, address := range []string{apiServiceIP + ":443", dnsServiceIP + ":53"} {
			group.Go(func() error { return waitReachable(ctx, m, address) })
		}
	}
	return group.Wait()
}

// waitAccount returns when the controllers have filled the default namespace with what every pod needs.
func waitAccount(ctx context.Context, client kubernetes.Interface) error {
	return until(ctx, "the default ServiceAccount", func() bool {
		_, account := client.CoreV1().ServiceAccounts(corev1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		_, authority := client.CoreV1().ConfigMaps(corev1.NamespaceDefault).Get(ctx, authorityMap, metav1.GetOptions{})
		return account == nil && authority == nil
	})
}

// waitDNS returns when the DNS server has learned all Services.
func waitDNS(ctx context.Context, m *machine.Machine) error {
	return inNetwork(m, func(d *machine.Dialer) error {
		client := &http.Client{Timeout: attempt, Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				return d.Dial(ctx, address)
			},
		}}
		return until(ctx, "the DNS server to be ready", func() bool {
			return get(ctx, client, "http://"+dnsReady+"/ready") == nil
		})
	})
}

// waitReachable returns when the machine reaches a TCP address.
func waitReachable(ctx context.Context, m *machine.Machine, address string) error {
	return inNetwork(m, func(d *machine.Dialer) error {
		return until(ctx, fmt.Sprintf("Service address %s to be reached from %q", address, m.Spec.Name), func() bool {
			ctx, cancel := context.WithTimeout(ctx, attempt)
			defer cancel()
			conn, err := d.Dial(ctx, address)
			if err != nil {
				return false
			}
			_ = conn.Close()
			return true
		})
	})
}

// inNetwork calls f with a dialer in the machine's network.
func inNetwork(m *machine.Machine, f func(*machine.Dialer) error) error {
	d, err := machine.NewDialer(m.NetNS())
	if err != nil {
		return err
	}
	defer d.Close()
	return f(d)
}
