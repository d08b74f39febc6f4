// SPDX-License-Identifier: Apache-2.0

// Package program runs one replica of the webhook's program as it is installed: it makes its own certificate, and the API server calls it by
// its Service.
package program

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/bench/rig"
)

const (
	service       = "cryopod-webhook"
	configuration = "cryopod"
	patience      = time.Minute

	// Host is the name that the program's certificate is for.
	Host = service + "." + rig.Namespace + ".svc"
)

// Program is the webhook's program, running.
type Program struct {
	*rig.Process

	bed           *rig.Bed
	port, metrics int
	webhooks      []admissionregistrationv1.MutatingWebhook
}

// Start starts the program at path, one on each bed, with further flags. When it returns, the API server calls it. The caller has to call Stop.
func Start(ctx context.Context, b *rig.Bed, path string, flags ...string) (*Program, error) {
	p := &Program{bed: b}
	var probe int
	for _, port := range []*int{&p.port, &p.metrics, &probe} {
		free, err := rig.FreePort(ctx)
		if err != nil {
			return nil, err
		}
		*port = free
	}
	if err := errors.Join(p.route(ctx), b.PretendScheduler(ctx)); err != nil {
		return nil, err
	}
	// The only replica needs no election, and where the machine is so busy that it could not renew its Lease, it would end.
	flags = append([]string{
		"--leader-elect=false", fmt.Sprintf("--webhook-port=%d", p.port), fmt.Sprintf("--metrics-address=127.0.0.1:%d", p.metrics),
		fmt.Sprintf("--probe-address=127.0.0.1:%d", probe), "--shutdown-delay=0s",
	}, flags...)
	var err error
	if p.Process, err = b.Start("webhook", path, b.Kubeconfig("webhook"), flags...); err != nil {
		return nil, err
	}
	err = p.AwaitReady(ctx, fmt.Sprintf("http://127.0.0.1:%d/readyz", probe))
	if err == nil {
		err = p.await(ctx, "the API server calls the webhook", true)
	}
	if err != nil {
		return nil, errors.Join(err, p.Stop())
	}
	return p, nil
}

// Stop asks the program to end and waits until it has.
func (p *Program) Stop() error {
	if err := p.Terminate(); err != nil {
		return err
	}
	return p.Ended()
}

// route has the Service lead to the program's port, as there are no nodes that would.
func (p *Program) route(ctx context.Context) error {
	meta := metav1.ObjectMeta{Namespace: rig.Namespace, Name: service}
	if err := p.bed.Admin.Delete(ctx, &corev1.Service{ObjectMeta: meta}); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the manifests' Service: %w", err)
	}
	local := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "127.0.0.1"}}
	if err := p.bed.Admin.Create(ctx, local); err != nil {
		return fmt.Errorf("making a Service: %w", err)
	}
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := p.bed.Admin.Get(ctx, client.ObjectKey{Name: configuration}, config); err != nil {
		return fmt.Errorf("reading the webhook configuration: %w", err)
	}
	for i := range config.Webhooks {
		config.Webhooks[i].ClientConfig.Service.Port = ptr.To(int32(p.port))
	}
	p.webhooks = config.DeepCopy().Webhooks
	if err := p.bed.Admin.Update(ctx, config); err != nil {
		return fmt.Errorf("changing the webhook configuration: %w", err)
	}
	return nil
}

// Address is where the program serves a path. Its certificate is Host's.
func (p *Program) Address(path string) string {
	return fmt.Sprintf("https://127.0.0.1:%d/%s", p.port, strings.TrimPrefix(path, "/"))
}

// CA is what signs the program's certificate, as the API server was told.
func (p *Program) CA(ctx context.Context) ([]byte, error) {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := p.bed.Admin.Get(ctx, client.ObjectKey{Name: configuration}, config); err != nil {
		return nil, fmt.Errorf("reading the webhook configuration: %w", err)
	}
	return config.Webhooks[0].ClientConfig.CABundle, nil
}

// Configure has the API server call the program again after Unconfigure, and returns once it does.
func (p *Program) Configure(ctx context.Context) error {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: configuration}}
	for _, w := range p.webhooks {
		config.Webhooks = append(config.Webhooks, *w.DeepCopy())
	}
	if err := p.bed.Admin.Create(ctx, config); err != nil {
		return fmt.Errorf("making the webhook configuration: %w", err)
	}
	return p.await(ctx, "the API server calls the webhook", true)
}

// Unconfigure removes the webhook configuration, and returns once the API server calls the program no more.
func (p *Program) Unconfigure(ctx context.Context) error {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: configuration}}
	if err := p.bed.Admin.Delete(ctx, config); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("deleting the webhook configuration: %w", err)
	}
	return p.await(ctx, "the API server calls the webhook no more", false)
}

// await waits until an opted-in pod would be changed, or would not, three times in a row.
func (p *Program) await(ctx context.Context, what string, changed bool) error {
	agreed := 0
	err := wait.PollUntilContextTimeout(ctx, 20*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: metav1.NamespaceDefault, GenerateName: "probe-", Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
			},
			Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "main", Image: "registry.test/app:1"}}},
		}
		if err := p.bed.Admin.Create(ctx, pod, client.DryRunAll); err != nil {
			return false, fmt.Errorf("making a pod: %w", err)
		}
		agreed++
		if (pod.Labels[v1alpha1.LabelEnabled] != "") != changed {
			agreed = 0
		}
		return agreed == 3, nil
	})
	if err != nil {
		return fmt.Errorf("waiting until %s: %w", what, err)
	}
	return nil
}
