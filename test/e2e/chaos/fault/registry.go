// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

// registryTable is the packet filter's table that leads the nodes to the proxy. There is one proxy at a time.
const registryTable = "chaos_registry"

// stopRegistry ends the registry, whose content stays.
func stopRegistry(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	if err := t.Bed.Cluster.StopRegistry(ctx); err != nil {
		return nil, "", err
	}
	return t.Bed.Cluster.StartRegistry, "stopped the registry", nil
}

// slowRegistry bounds each connection to the registry to between 64 KiB/s and 4 MiB/s, and adds up to 300 ms to each request.
func slowRegistry(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
	p := &proxy{BytesPerSecond: 64 << (10 + r.IntN(7)), Latency: time.Duration(r.IntN(301)) * time.Millisecond}
	undo, err := interpose(ctx, t, p)
	return undo, fmt.Sprintf("the registry passes %d KiB/s on each connection, %v later", p.BytesPerSecond>>10, p.Latency), err
}

// BoundConnections has the registry pass so many bytes a second on each connection, as those of clouds do.
func BoundConnections(ctx context.Context, t *Target, bytesPerSecond int) (Undo, error) {
	return interpose(ctx, t, &proxy{BytesPerSecond: bytesPerSecond})
}

// failRegistry has the registry answer 500 to all requests, or to between a quarter and three quarters of them.
func failRegistry(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
	percent := 25 * (1 + r.IntN(4))
	var mu sync.Mutex
	draws := rand.New(rand.NewPCG(r.Uint64(), r.Uint64()))
	p := &proxy{Failing: func() bool {
		mu.Lock()
		defer mu.Unlock()
		return draws.IntN(100) < percent
	}}
	undo, err := interpose(ctx, t, p)
	return undo, fmt.Sprintf("the registry answers 500 to %d %% of the requests", percent), err
}

// loseBlob has the registry know the first blob of a checkpoint that is asked for no more. Others are as they were.
func loseBlob(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	undo, err := interpose(ctx, t, &proxy{Losing: true})
	return undo, "the registry loses the first blob of a checkpoint that is asked for", err
}

// interpose leads what the nodes say to the registry through p from now on. Connections that are open are reset, so that nothing passes by.
// It returns once a node's request has come through it.
func interpose(ctx context.Context, t *Target, p *proxy) (Undo, error) {
	c := t.Bed.Cluster
	_, port, err := net.SplitHostPort(c.RegistryAddress())
	if err != nil {
		return nil, fmt.Errorf("reading the registry's address: %w", err)
	}
	p.Dial = func(ctx context.Context) (net.Conn, error) { return c.Dial(ctx, net.JoinHostPort("127.0.0.1", port)) }
	l, err := c.Listen(ctx, net.JoinHostPort(c.ControlPlaneIP(), "0"))
	if err != nil {
		return nil, err
	}
	stop := p.serve(l)
	_, own, _ := net.SplitHostPort(l.Addr().String())
	// A redirected packet has another port by the time that it comes in.
	remove, err := filter(ctx, t.onMachine(controlPlane), registryTable, fmt.Sprintf(`
chain redirected { type nat hook prerouting priority dstnat; iifname %[1]q tcp dport %[2]s redirect to :%[3]s; }
chain passing { type filter hook input priority 0; iifname %[1]q tcp dport %[2]s reject with tcp reset; }`, c.BridgeName(), port, own))
	if err != nil {
		stop()
		return nil, err
	}
	undo := func(ctx context.Context) error {
		defer stop()
		return remove(ctx)
	}
	if err := comesBy(ctx, t, p); err != nil {
		return nil, errors.Join(err, undo(ctx))
	}
	return undo, nil
}

// proxyTimeout bounds the wait for the effect.
const proxyTimeout = 20 * time.Second

// comesBy asks the registry from a node, and fails when the proxy does not see it.
func comesBy(ctx context.Context, t *Target, p *proxy) error {
	node, err := t.source()
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: proxyTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return node.Dial(ctx, address) },
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Bed.Cluster.RegistryAddress()+"/v2/", http.NoBody)
	if err != nil {
		return fmt.Errorf("asking the registry: %w", err)
	}
	answer, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking the registry from %s: %w", node.Name(), err)
	}
	_ = answer.Body.Close()
	if p.requests.Load() == 0 {
		return fmt.Errorf("the request of %s to the registry did not come by the proxy", node.Name())
	}
	return nil
}
