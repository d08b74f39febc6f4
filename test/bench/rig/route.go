// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Route has the API server reach the webhook at that port of loopback. A Service's ClusterIP would be routed by nobody here: the Service names
// loopback, and the configuration the port. All else is as in the manifests, so that the API server calls as it does in a cluster: a
// connection for each call that finds none idle, by HTTP/1.1, to the Service's name. The function may change each webhook; nil changes nothing.
func (b *Bed) Route(ctx context.Context, port int, change func(*admissionregistrationv1.MutatingWebhook)) error {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "cryopod-webhook"}}
	if err := b.Admin.Delete(ctx, svc); err != nil {
		return fmt.Errorf("replacing the Service: %w", err)
	}
	svc = &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "127.0.0.1"},
	}
	if err := b.Admin.Create(ctx, svc); err != nil {
		return fmt.Errorf("replacing the Service: %w", err)
	}
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := b.Admin.Get(ctx, client.ObjectKey{Name: "cryopod"}, config); err != nil {
		return fmt.Errorf("reading the webhook configuration: %w", err)
	}
	for i := range config.Webhooks {
		w := &config.Webhooks[i]
		w.ClientConfig.Service.Port = ptr.To(int32(port)) //nolint:gosec // a port
		if change != nil {
			change(w)
		}
	}
	if err := b.Admin.Update(ctx, config); err != nil {
		return fmt.Errorf("routing the webhooks: %w", err)
	}
	return nil
}
