// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/apiserver"
	"github.com/cryopod/cryopod/test/bench/rig"
	"github.com/cryopod/cryopod/test/bench/webhook/crowd"
)

// review is one kind of request that the webhook answers without holding it.
type review struct {
	// name is part of the metric's.
	name string
	path string
	body []byte
	// patches is whether the answer has to change the object.
	patches bool
}

// reviews are requests as the API server would send them, about objects that it has, with all that it fills in.
func reviews(ctx context.Context, b *rig.Bed) ([]review, error) {
	ns, err := crowd.Namespace(ctx, b, "straight")
	if err != nil {
		return nil, err
	}
	plain := crowd.Pod(ns, "plain", "node-1")
	delete(plain.Annotations, v1alpha1.AnnotationEnabled)
	running := crowd.Pod(ns, "running", "node-1")
	node := crowd.Node("node-1")
	if err := b.Admin.Create(ctx, node); err != nil {
		return nil, fmt.Errorf("making node %q: %w", node.Name, err)
	}
	for _, pod := range []*corev1.Pod{plain, running} {
		if err := crowd.Run(ctx, b, pod); err != nil {
			return nil, err
		}
	}
	wanted, unwanted := crowd.Pod(ns, "wanted", ""), crowd.Pod(ns, "unwanted", "")
	delete(unwanted.Annotations, v1alpha1.AnnotationEnabled)
	for _, pod := range []*corev1.Pod{wanted, unwanted} {
		if err := b.Admin.Create(ctx, pod, client.DryRunAll); err != nil {
			return nil, fmt.Errorf("filling in pod %q: %w", pod.Name, err)
		}
	}
	ending := node.DeepCopy()
	ending.Spec.Taints = append(ending.Spec.Taints, corev1.Taint{
		Key: "aws-node-termination-handler/spot-itn", Effect: corev1.TaintEffectNoSchedule,
	})
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: plain.Name}}
	options := &metav1.DeleteOptions{GracePeriodSeconds: ptr.To(int64(30))}
	options.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("DeleteOptions"))

	pods := metav1.GroupVersionResource{Version: "v1", Resource: "pods"}
	nodes := metav1.GroupVersionResource{Version: "v1", Resource: "nodes"}
	var all []review
	for _, r := range []struct {
		review
		request admissionv1.AdmissionRequest
		object  client.Object
		old     client.Object
		options runtime.Object
	}{
		{review: review{name: "create_plain", path: admission.PathPod}, object: unwanted,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Resource: pods}},
		{review: review{name: "create_opted_in", path: admission.PathPod, patches: true}, object: wanted,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Resource: pods}},
		{review: review{name: "evict_plain", path: admission.PathEviction, patches: true}, object: eviction,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Resource: pods, SubResource: "eviction"}},
		{review: review{name: "node_update", path: admission.PathNode, patches: true}, object: ending, old: node,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Update, Resource: nodes}},
		{review: review{name: "delete_opted_in", path: admission.PathDelete}, old: running, options: options,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Delete, Resource: pods}},
	} {
		body, err := encode(r.request, r.object, r.old, r.options)
		if err != nil {
			return nil, fmt.Errorf("encoding request %q: %w", r.name, err)
		}
		r.body = body
		all = append(all, r.review)
	}
	return all, nil
}

// encode is the request's body.
func encode(request admissionv1.AdmissionRequest, object, old client.Object, options runtime.Object) ([]byte, error) {
	about := object
	if about == nil {
		about = old
	}
	request.UID = types.UID("b5d1a3e0-0000-4000-8000-" + fmt.Sprintf("%012d", len(about.GetName())))
	request.Name, request.Namespace = about.GetName(), about.GetNamespace()
	request.UserInfo = authenticationv1.UserInfo{Username: "somebody", Groups: []string{"system:authenticated"}}
	request.RequestResource, request.RequestSubResource = &request.Resource, request.SubResource
	request.DryRun = ptr.To(false)
	kind, err := apiutil.GVKForObject(about, apiserver.Scheme())
	if err != nil {
		return nil, err
	}
	request.Kind = metav1.GroupVersionKind(kind)
	request.RequestKind = &request.Kind
	for _, part := range []struct {
		from runtime.Object
		to   *runtime.RawExtension
	}{{asObject(object), &request.Object}, {asObject(old), &request.OldObject}, {options, &request.Options}} {
		if part.from == nil {
			continue
		}
		if part.from != options {
			part.from.GetObjectKind().SetGroupVersionKind(kind)
		}
		if part.to.Raw, err = json.Marshal(part.from); err != nil {
			return nil, err
		}
	}
	review := admissionv1.AdmissionReview{Request: &request}
	review.SetGroupVersionKind(admissionv1.SchemeGroupVersion.WithKind("AdmissionReview"))
	return json.Marshal(review)
}

// asObject is nil for nil, whatever the interface.
func asObject(o client.Object) runtime.Object {
	if o == nil {
		return nil
	}
	return o
}
