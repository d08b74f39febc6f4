// SPDX-License-Identifier: Apache-2.0

package selfsigned

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// Name is the controller's name.
const Name = "certs.selfsigned"

// settle is how long a replica that has a valid certificate waits before it serves the next one: every API server has to have read
// meanwhile that the new CA is to be trusted.
const settle = 10 * time.Second

// Rotator keeps the webhook's certificate. It runs on every replica. Its methods may be called from many goroutines at once.
type Rotator struct {
	// Client reads the Secret and the MutatingWebhookConfiguration from the cache, and writes them.
	Client client.Client
	// Live reads from the API server.
	Live client.Reader
	// Clock tells the time.
	Clock clock.PassiveClock
	// Secret names the Secret. It has to exist; its data is the Rotator's.
	Secret client.ObjectKey
	// Configuration names the MutatingWebhookConfiguration that is told which CAs to trust.
	Configuration string
	// Policy says what certificates to make.
	Policy Policy

	serving atomic.Pointer[tls.Certificate]

	// waiting are the certificates that are trusted and wait to be served, the one that waits longest first. Only Reconcile uses it, one
	// at a time.
	waiting []waiting
}

// waiting is a certificate that the API server was told to trust, and since when.
type waiting struct {
	pair  *tls.Certificate
	since time.Time
}

// Register adds the controller to the manager. Its cache needs to have the Secret and the configuration only.
func (r *Rotator) Register(mgr ctrl.Manager) error {
	ours := func(key client.ObjectKey) builder.Predicates {
		return builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return client.ObjectKeyFromObject(o) == key
		}))
	}
	toSecret := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: r.Secret}}
	})
	err := ctrl.NewControllerManagedBy(mgr).Named(Name).
		For(&corev1.Secret{}, ours(r.Secret)).
		Watches(&admissionregistrationv1.MutatingWebhookConfiguration{}, toSecret, ours(client.ObjectKey{Name: r.Configuration})).
		WithOptions(controller.Options{NeedLeaderElection: ptr.To(false)}).
		Complete(r)
	if err != nil {
		return fmt.Errorf("adding controller %q: %w", Name, err)
	}
	return nil
}

// GetCertificate is the certificate to serve, for tls.Config.
func (r *Rotator) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if pair := r.serving.Load(); pair != nil {
		return pair, nil
	}
	return nil, fmt.Errorf("%w: none was read from Secret %q yet", ErrUnusable, r.Secret)
}

// Ready is a health check: nil when there is a certificate to serve.
func (r *Rotator) Ready(*http.Request) error {
	_, err := r.GetCertificate(nil)
	return err
}

// Reconcile renews the certificate if it is time, tells the API server which CAs to trust, and only then serves it.
func (r *Rotator) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	secret := &corev1.Secret{}
	if err := r.Client.Get(ctx, r.Secret, secret); err != nil {
		if apierrors.IsNotFound(err) {
			log.FromContext(ctx).Info("The Secret for the certificate is missing; waiting for it to be made", "secret", r.Secret)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("reading Secret %q: %w", r.Secret, err)
	}
	now := r.Clock.Now()
	pair, renewal, err := r.Policy.Load(secret.Data, now)
	if err != nil || !now.Before(renewal) {
		return reconcile.Result{}, r.renew(ctx, secret, now)
	}
	if trusted, err := r.trust(ctx, secret); err != nil || !trusted {
		return reconcile.Result{}, err
	}
	if wait := r.serve(ctx, pair, secret.Data[KeyCA], now); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	return reconcile.Result{RequeueAfter: renewal.Sub(now)}, nil
}

// serve puts the certificate, which the API server was told to trust, into use, or returns how long that has to wait. One that waits is not
// forgotten for a newer one: certificates that are renewed faster than one settles would else never be served. What is being served is given up
// at once when nobody trusts it any more.
func (r *Rotator) serve(ctx context.Context, pair *tls.Certificate, cas []byte, now time.Time) time.Duration {
	before := r.serving.Load()
	if same(before, pair) {
		r.waiting = nil
		return 0
	}
	if n := len(r.waiting); n == 0 || !same(r.waiting[n-1].pair, pair) {
		r.waiting = append(r.waiting, waiting{pair: pair, since: now})
	}
	r.waiting = slices.DeleteFunc(r.waiting, func(w waiting) bool { return r.Policy.verify(w.pair, cas, now) != nil })
	next := -1
	if before == nil || r.Policy.verify(before, cas, now) != nil {
		next = 0
	}
	for i, w := range r.waiting {
		if !now.Before(w.since.Add(settle)) {
			next = i
		}
	}
	if next >= 0 && next < len(r.waiting) {
		served := r.waiting[next].pair
		r.serving.Store(served)
		r.waiting = r.waiting[next+1:]
		log.FromContext(ctx).Info("Serving certificate changed", "expires", served.Leaf.NotAfter.Format(time.RFC3339))
	}
	if len(r.waiting) == 0 {
		return 0
	}
	return r.waiting[0].since.Add(settle).Sub(now)
}

func same(a, b *tls.Certificate) bool {
	return a != nil && b != nil && bytes.Equal(a.Certificate[0], b.Certificate[0])
}

// renew writes a new certificate into the Secret, whose change brings it back here. A conflict means that another replica was
// faster, whose certificate is as good.
func (r *Rotator) renew(ctx context.Context, secret *corev1.Secret, now time.Time) error {
	old, err := r.inUse(ctx, secret.Data)
	if err != nil {
		return err
	}
	data, err := r.Policy.Issue(old, now)
	if err != nil {
		return err
	}
	next := secret.DeepCopy()
	next.Data = data
	if err := r.Client.Update(ctx, next); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("writing Secret %q: %w", r.Secret, err)
	}
	return nil
}

// inUse is the Secret's data with the CAs of the certificates that this replica serves and is about to, and those that the API server was told
// to trust, which other replicas may still need: who empties the Secret must not make them forgotten.
func (r *Rotator) inUse(ctx context.Context, data map[string][]byte) (map[string][]byte, error) {
	pairs := []*tls.Certificate{r.serving.Load()}
	for _, w := range r.waiting {
		pairs = append(pairs, w.pair)
	}
	var cas []*x509.Certificate
	for _, pair := range pairs {
		if pair == nil || len(pair.Certificate) < 2 {
			continue
		}
		if ca, err := x509.ParseCertificate(pair.Certificate[len(pair.Certificate)-1]); err == nil {
			cas = append(cas, ca)
		}
	}
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	err := r.Client.Get(ctx, client.ObjectKey{Name: r.Configuration}, config)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("reading MutatingWebhookConfiguration %q: %w", r.Configuration, err)
	}
	all := slices.Concat(encode(cas), data[KeyCA])
	for i := range config.Webhooks {
		all = append(all, config.Webhooks[i].ClientConfig.CABundle...)
	}
	return map[string][]byte{KeyCA: all}, nil
}

// trust has the API server trust the Secret's CAs, and reports whether it does. A configuration that is not there calls nobody.
func (r *Rotator) trust(ctx context.Context, secret *corev1.Secret) (bool, error) {
	config := &admissionregistrationv1.MutatingWebhookConfiguration{}
	if err := r.Client.Get(ctx, client.ObjectKey{Name: r.Configuration}, config); err != nil {
		return apierrors.IsNotFound(err), client.IgnoreNotFound(err)
	}
	next := config.DeepCopy()
	changed := false
	for i := range next.Webhooks {
		if c := &next.Webhooks[i].ClientConfig; !bytes.Equal(c.CABundle, secret.Data[KeyCA]) {
			c.CABundle = secret.Data[KeyCA]
			changed = true
		}
	}
	if !changed {
		return true, nil
	}
	// A replica whose cache is behind must not bring old CAs back.
	var live corev1.Secret
	if err := r.Live.Get(ctx, r.Secret, &live); err != nil || live.ResourceVersion != secret.ResourceVersion {
		return false, client.IgnoreNotFound(err)
	}
	patch := client.StrategicMergeFrom(config, client.MergeFromWithOptimisticLock{})
	if err := r.Client.Patch(ctx, next, patch); err != nil {
		if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
			return false, nil
		}
		return false, fmt.Errorf("writing MutatingWebhookConfiguration %q: %w", r.Configuration, err)
	}
	log.FromContext(ctx).Info("API server told which CAs to trust", "configuration", r.Configuration)
	return true, nil
}
