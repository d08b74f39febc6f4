// SPDX-License-Identifier: Apache-2.0

package app

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	lifecyclev1alpha1 "k8s.io/api/lifecycle/v1alpha1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// syncPatience is how long one readiness probe waits for the cache.
const syncPatience = time.Second

func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		corev1.AddToScheme, coordinationv1.AddToScheme, admissionregistrationv1.AddToScheme, policyv1.AddToScheme, v1alpha1.AddToScheme,
		lifecyclev1alpha1.AddToScheme, appsv1.AddToScheme, batchv1.AddToScheme, authorizationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("making the scheme: %w", err)
		}
	}
	return scheme, nil
}

// cacheOptions keep in memory, and watch, only what is looked up often: all PodCheckpoints, the pods that were opted in, what namespaces say
// about retention, what tells that nodes end or can't save pods, and three objects by name. The rest is read from the API server when it is
// needed; reading it from the cache by mistake is an error.
func cacheOptions(o Options) cache.Options {
	named := func(key client.ObjectKey) cache.ByObject {
		return cache.ByObject{
			Namespaces: map[string]cache.Config{key.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", key.Name)}},
		}
	}
	options := cache.Options{
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Namespace{}:     {Transform: stripNamespace},
			&corev1.Node{}:          {Transform: stripNode},
			&v1alpha1.NodeProfile{}: {Transform: stripProfile},
			&corev1.Pod{}:           {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelEnabled: "true"}), Transform: stripPod},
			&corev1.Secret{}:        named(client.ObjectKey{Namespace: o.Namespace, Name: o.CertSecret}),
			&coordinationv1.Lease{}: named(o.schedulerLease()),
			&admissionregistrationv1.MutatingWebhookConfiguration{}: {
				Field: fields.OneTermEqualSelector("metadata.name", o.Configuration),
			},
		},
	}
	if o.Checkpoint.EvictionRequests {
		// Those that have Cryopod among their responders, and labels that say so. Most API servers don't have the type.
		options.ByObject[&lifecyclev1alpha1.Eviction{}] = cache.ByObject{Label: labelled(v1alpha1.EvictionResponder)}
	}
	return options
}

// labelled selects what has a label, whatever its value.
func labelled(key string) labels.Selector {
	// The keys are constants.
	r, _ := labels.NewRequirement(key, selection.Exists, nil)
	return labels.NewSelector().Add(*r)
}

// watchLease has the cache keep the scheduler's Lease from the start.
func watchLease(ctx context.Context, mgr manager.Manager) error {
	if _, err := mgr.GetCache().GetInformer(ctx, &coordinationv1.Lease{}); err != nil {
		return fmt.Errorf("watching the scheduler's Lease: %w", err)
	}
	return nil
}

// cacheSynced is a readiness check: nil once the cache has been filled.
func cacheSynced(c cache.Cache) healthz.Checker {
	return func(req *http.Request) error {
		ctx, cancel := context.WithTimeout(req.Context(), syncPatience)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errors.New("the cache is not filled yet")
		}
		return nil
	}
}
