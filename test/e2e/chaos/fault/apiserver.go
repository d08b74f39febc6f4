// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

const (
	controlPlane = "control-plane"
	apiServer    = "kube-apiserver"
	// apiNodeTable and apiAgentsTable are tables of the packet filter on the control plane.
	apiNodeTable, apiAgentsTable = "chaos_api_node", "chaos_api_agents"
	// noAnswer is for how long something has to be silent to count as unreachable.
	noAnswer = time.Second
)

// cutAPIFromNode keeps all that runs on the source, its pods included, from the API server. The API server still reaches the kubelet.
func cutAPIFromNode(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	node, err := t.source()
	if err != nil {
		return nil, "", err
	}
	undo, err := cutAPI(ctx, t, apiNodeTable, []string{node.IP(), node.PodCIDR()})
	if err != nil {
		return nil, "", err
	}
	if _, err := node.Exec(ctx, connecting(t)...); err == nil {
		return nil, "", errors.Join(fmt.Errorf("the API server is still reached from %s", node.Name()), undo(ctx))
	}
	return undo, fmt.Sprintf("%s and its pods don't reach the API server", node.Name()), nil
}

// cutAPIFromAgents keeps all agents from the API server, and nobody else.
func cutAPIFromAgents(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	pods, err := t.Bed.ComponentPods(ctx, "cryopod-agent")
	if err != nil {
		return nil, "", err
	}
	var addresses []string
	for _, p := range pods {
		if p.Status.PodIP != "" {
			addresses = append(addresses, p.Status.PodIP)
		}
	}
	if len(addresses) == 0 {
		return nil, "", errors.New("no agent has an address")
	}
	undo, err := cutAPI(ctx, t, apiAgentsTable, addresses)
	if err != nil {
		return nil, "", err
	}
	all, err := processes(ctx, "agent", t.Bed.Cluster.Nodes()...)
	if err != nil {
		return nil, "", errors.Join(err, undo(ctx))
	}
	for _, p := range all[:min(1, len(all))] {
		argv := append([]string{"nsenter", fmt.Sprintf("--target=%d", p.pid), "--net", "--"}, connecting(t)...)
		if _, err := p.node.Exec(ctx, argv...); err == nil {
			return nil, "", errors.Join(fmt.Errorf("agent %s still reaches the API server", p), undo(ctx))
		}
	}
	return undo, fmt.Sprintf("agents %s don't reach the API server", strings.Join(addresses, ", ")), nil
}

// connecting is a program that fails on a node that does not reach the API server.
func connecting(t *Target) []string {
	host, port, _ := net.SplitHostPort(t.Bed.Cluster.APIAddress())
	return []string{"timeout", fmt.Sprint(noAnswer.Seconds()), "bash", "-c", `exec 3<>"/dev/tcp/$0/$1"`, host, port}
}

// cutAPI drops what the addresses say to the API server and what it answers, on new connections and on old ones.
func cutAPI(ctx context.Context, t *Target, table string, addresses []string) (Undo, error) {
	_, port, _ := net.SplitHostPort(t.Bed.Cluster.APIAddress())
	set := strings.Join(addresses, ", ")
	return filter(ctx, t.onMachine(controlPlane), table, fmt.Sprintf(`
chain in { type filter hook input priority 0; ip saddr { %[1]s } tcp dport %[2]s drop; }
chain out { type filter hook output priority 0; ip daddr { %[1]s } tcp sport %[2]s drop; }`, set, port))
}

// stopAPIServer stops the API server's process, for everybody. Connections to it stay, and nothing comes.
func stopAPIServer(ctx context.Context, t *Target, _ *rand.Rand) (Undo, string, error) {
	undo := func(ctx context.Context) error { return signalAPIServer(ctx, t.Bed.Cluster, "CONT") }
	if err := signalAPIServer(ctx, t.Bed.Cluster, "STOP"); err != nil {
		return nil, "", err
	}
	asking, cancel := context.WithTimeout(ctx, noAnswer)
	defer cancel()
	if err := t.Bed.Client.List(asking, &corev1.NamespaceList{}); err == nil {
		return nil, "", errors.Join(errors.New("the stopped API server answers"), undo(ctx))
	}
	return undo, "stopped the API server's process", nil
}

func signalAPIServer(ctx context.Context, c *cluster.Cluster, signal string) error {
	cmd, err := c.Command(ctx, controlPlane, "pkill", "-"+signal, "-x", apiServer)
	if err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("sending %s to the API server: %w: %s", signal, err, out)
	}
	return nil
}
