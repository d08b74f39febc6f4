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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	named := func(name string) cache.ByObject {
		return cache.ByObject{
			Namespaces: map[string]cache.Config{o.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", name)}},
		}
	}
	options := cache.Options{
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Namespace{}:     {Transform: stripNamespace},
			&corev1.Node{}:          {Transform: stripNode},
			&v1alpha1.NodeProfile{}: {Transform: stripProfile},
			&corev1.Pod{}:           {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelEnabled: "true"})},
			&corev1.Secret{}:        named(o.CertSecret),
			&coordinationv1.Lease{}: named(o.SchedulerLease),
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

// stripNode leaves of a node its name and UID, its notice, its taints, and whether it is cordoned.
func stripNode(obj any) (any, error) {
	node, ok := obj.(*corev1.Node)
	if !ok {
		return obj, nil
	}
	kept := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion},
		Spec:       corev1.NodeSpec{Taints: node.Spec.Taints, Unschedulable: node.Spec.Unschedulable},
	}
	if notice, ok := node.Annotations[v1alpha1.AnnotationNotice]; ok {
		metav1.SetMetaDataAnnotation(&kept.ObjectMeta, v1alpha1.AnnotationNotice, notice)
	}
	return kept, nil
}

// stripProfile leaves of a NodeProfile its name and UID, its conditions, and the notice that its agent gives.
func stripProfile(obj any) (any, error) {
	profile, ok := obj.(*v1alpha1.NodeProfile)
	if !ok {
		return obj, nil
	}
	return &v1alpha1.NodeProfile{
		ObjectMeta: metav1.ObjectMeta{Name: profile.Name, UID: profile.UID, ResourceVersion: profile.ResourceVersion},
		Status:     v1alpha1.NodeProfileStatus{Notice: profile.Status.Notice, Conditions: profile.Status.Conditions},
	}, nil
}

// stripNamespace leaves of a namespace its name and UID, and what it says about retention.
func stripNamespace(obj any) (any, error) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok {
		return obj, nil
	}
	kept := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns.Name, UID: ns.UID, ResourceVersion: ns.ResourceVersion}}
	for _, key := range []string{v1alpha1.AnnotationRetentionCount, v1alpha1.AnnotationRetentionAge, v1alpha1.AnnotationRetentionBytes} {
		if value, ok := ns.Annotations[key]; ok {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, value)
		}
	}
	return kept, nil
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
