// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"bufio"
	"context"
	"fmt"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/install"
)

// Scale gives a Deployment of Cryopod so many replicas and returns when there are that many, no more and no fewer, all available.
func (b *Bed) Scale(ctx context.Context, deployment string, replicas int32) error {
	_, err := b.Kubectl.Run(ctx, "scale", "-n", install.Namespace, "deployment/"+deployment, fmt.Sprintf("--replicas=%d", replicas))
	if err != nil {
		return err
	}
	return Until(ctx, func(ctx context.Context) error {
		var d appsv1.Deployment
		if err := b.Client.Get(ctx, client.ObjectKey{Namespace: install.Namespace, Name: deployment}, &d); err != nil {
			return err
		}
		pods, err := b.ComponentPods(ctx, deployment)
		if err != nil {
			return err
		}
		if d.Status.AvailableReplicas != replicas || len(pods) != int(replicas) {
			return fmt.Errorf("the Deployment %q has %d pods, %d available, want %d", deployment, len(pods), d.Status.AvailableReplicas, replicas)
		}
		return nil
	})
}

// ComponentPods are the pods of a Deployment or DaemonSet of Cryopod.
func (b *Bed) ComponentPods(ctx context.Context, name string) ([]corev1.Pod, error) {
	var pods corev1.PodList
	err := b.Client.List(ctx, &pods, client.InNamespace(install.Namespace), client.MatchingLabels{"app.kubernetes.io/name": name})
	if err != nil {
		return nil, fmt.Errorf("listing the pods of %q: %w", name, err)
	}
	return pods.Items, nil
}

// WebhookCalls is how many calls the webhook's pods have answered at a path, as their metrics say.
func (b *Bed) WebhookCalls(ctx context.Context, path string) (float64, error) {
	pods, err := b.ComponentPods(ctx, "cryopod-webhook")
	if err != nil {
		return 0, err
	}
	var total float64
	for _, p := range pods {
		n, err := b.Metric(ctx, p, "controller_runtime_webhook_requests_total", fmt.Sprintf("webhook=%q", path))
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

// Metric adds up what one of Cryopod's pods says of a metric, in the samples that have that label; an empty label is in all.
func (b *Bed) Metric(ctx context.Context, pod corev1.Pod, name, label string) (float64, error) {
	text, err := b.Kubectl.Run(ctx, "get", "--raw", fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:8080/proxy/metrics", pod.Namespace, pod.Name))
	if err != nil {
		return 0, err
	}
	n, err := sumMetric(text, name, label)
	if err != nil {
		return 0, fmt.Errorf("reading the metrics of pod %q: %w", pod.Name, err)
	}
	return n, nil
}

func sumMetric(text, name, label string) (float64, error) {
	var total float64
	found := false
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		at := strings.LastIndexByte(lines.Text(), ' ')
		if at < 0 {
			continue
		}
		sample, value := lines.Text()[:at], lines.Text()[at+1:]
		if sample != name && !strings.HasPrefix(sample, name+"{") || !strings.Contains(sample, label) {
			continue
		}
		n, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return 0, fmt.Errorf("parsing sample %q: %w", lines.Text(), err)
		}
		total += n
		found = true
	}
	if !found {
		return 0, fmt.Errorf("there is no sample of %s with %s", name, label)
	}
	return total, nil
}
