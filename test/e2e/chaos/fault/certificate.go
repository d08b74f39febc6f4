// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/certs/selfsigned"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/install"
)

const (
	// webhookHost is the name that the webhook's certificate is for.
	webhookHost = "cryopod-webhook." + install.Namespace + ".svc"
	// healTimeout bounds the time until the webhook has a valid certificate again, after its replicas run.
	healTimeout = 2 * time.Minute
)

var (
	tlsSecret            = client.ObjectKey{Namespace: install.Namespace, Name: "cryopod-webhook-tls"}
	webhookConfiguration = client.ObjectKey{Name: "cryopod"}
	// expired makes certificates that have been over for half an hour: their first hour lies in the past.
	expired = selfsigned.Policy{Host: webhookHost, Lifetime: 30 * time.Minute}
)

// expireCertificate replaces the webhook's certificate by one that has expired, in its Secret, or what the API server trusts by the CA of
// that one, or both. Nobody has to mend it: undo returns once Cryopod has.
func expireCertificate(ctx context.Context, t *Target, r *rand.Rand) (Undo, string, error) {
	which := r.IntN(3)
	data, err := expired.Issue(nil, time.Now())
	if err != nil {
		return nil, "", fmt.Errorf("making an expired certificate: %w", err)
	}
	detail := ""
	if which != 1 {
		if err := replaceSecret(ctx, t.Bed, data); err != nil {
			return nil, "", err
		}
		detail = "replaced the webhook's certificate by one that has expired"
	}
	if which != 0 {
		if err := replaceBundle(ctx, t.Bed, data[selfsigned.KeyCA]); err != nil {
			return nil, "", err
		}
		if detail != "" {
			detail += ", and "
		}
		detail += "had the API server trust an expired CA alone"
	}
	undo := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, healTimeout)
		defer cancel()
		return bed.Until(ctx, func(ctx context.Context) error { return healed(ctx, t.Bed) })
	}
	return undo, detail, nil
}

func replaceSecret(ctx context.Context, b *bed.Bed, data map[string][]byte) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var secret corev1.Secret
		if err := b.Client.Get(ctx, tlsSecret, &secret); err != nil {
			return err
		}
		secret.Data = data
		return b.Client.Update(ctx, &secret)
	})
	if err != nil {
		return fmt.Errorf("replacing Secret %q: %w", tlsSecret, err)
	}
	return nil
}

func replaceBundle(ctx context.Context, b *bed.Bed, bundle []byte) error {
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		var config admissionregistrationv1.MutatingWebhookConfiguration
		if err := b.Client.Get(ctx, webhookConfiguration, &config); err != nil {
			return err
		}
		for i := range config.Webhooks {
			config.Webhooks[i].ClientConfig.CABundle = bundle
		}
		return b.Client.Update(ctx, &config)
	})
	if err != nil {
		return fmt.Errorf("replacing the CA of MutatingWebhookConfiguration %q: %w", webhookConfiguration.Name, err)
	}
	return nil
}

// healed tells whether the Secret has a certificate that is valid and that the API server trusts.
func healed(ctx context.Context, b *bed.Bed) error {
	var secret corev1.Secret
	var config admissionregistrationv1.MutatingWebhookConfiguration
	if err := errors.Join(b.Client.Get(ctx, tlsSecret, &secret), b.Client.Get(ctx, webhookConfiguration, &config)); err != nil {
		return fmt.Errorf("reading the webhook's certificate: %w", err)
	}
	for _, w := range config.Webhooks {
		trusted := map[string][]byte{
			selfsigned.KeyCA:          w.ClientConfig.CABundle,
			selfsigned.KeyCertificate: secret.Data[selfsigned.KeyCertificate],
			selfsigned.KeyPrivate:     secret.Data[selfsigned.KeyPrivate],
		}
		if _, _, err := expired.Load(trusted, time.Now()); err != nil {
			return fmt.Errorf("webhook %q: %w", w.Name, err)
		}
	}
	return nil
}
