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

// subjects are what the requests are about, as the API server has them, with all that it fills in.
type subjects struct {
	wanted, unwanted *corev1.Pod // to be made, opted in and not
	running, plain   *corev1.Pod // that run, opted in and not
	node, ending     *corev1.Node
}

func makeSubjects(ctx context.Context, b *rig.Bed, ns string) (*subjects, error) {
	s := &subjects{
		wanted: crowd.Pod(metav1.NamespaceSystem, "wanted", ""), unwanted: crowd.Pod(metav1.NamespaceSystem, "unwanted", ""),
		running: crowd.Pod(ns, "running", "node-1"), plain: crowd.Pod(ns, "plain", "node-1"), node: crowd.Node("node-1"),
	}
	delete(s.plain.Annotations, v1alpha1.AnnotationEnabled)
	delete(s.unwanted.Annotations, v1alpha1.AnnotationEnabled)
	if err := b.Admin.Create(ctx, s.node); err != nil {
		return nil, fmt.Errorf("making node %q: %w", s.node.Name, err)
	}
	for _, pod := range []*corev1.Pod{s.plain, s.running} {
		if err := crowd.Run(ctx, b, pod); err != nil {
			return nil, err
		}
	}
	// In a namespace that the webhooks are kept away from: the API server fills in the rest.
	for _, pod := range []*corev1.Pod{s.wanted, s.unwanted} {
		if err := b.Admin.Create(ctx, pod, client.DryRunAll); err != nil {
			return nil, fmt.Errorf("filling in pod %q: %w", pod.Name, err)
		}
		pod.Namespace = ns
	}
	s.ending = s.node.DeepCopy()
	s.ending.Spec.Taints = append(s.ending.Spec.Taints, corev1.Taint{
		Key: "aws-node-termination-handler/spot-itn", Effect: corev1.TaintEffectNoSchedule,
	})
	return s, nil
}

// reviews are requests as the API server would send them.
func reviews(ctx context.Context, b *rig.Bed) ([]review, error) {
	ns, err := crowd.Namespace(ctx, b, "straight")
	if err != nil {
		return nil, err
	}
	s, err := makeSubjects(ctx, b, ns)
	if err != nil {
		return nil, err
	}
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: s.plain.Name}}
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
		{review: review{name: "create_plain", path: admission.PathPod}, object: s.unwanted,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Resource: pods}},
		{review: review{name: "create_opted_in", path: admission.PathPod, patches: true}, object: s.wanted,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Resource: pods}},
		{review: review{name: "evict_plain", path: admission.PathEviction, patches: true}, object: eviction,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Create, Resource: pods, SubResource: "eviction"}},
		{review: review{name: "node_update", path: admission.PathNode, patches: true}, object: s.ending, old: s.node,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Update, Resource: nodes}},
		{review: review{name: "delete_opted_in", path: admission.PathDelete}, old: s.running, options: options,
			request: admissionv1.AdmissionRequest{Operation: admissionv1.Delete, Resource: pods}},
	} {
		if r.body, err = encode(r.request, r.object, r.old, r.options); err != nil {
			return nil, fmt.Errorf("encoding request %q: %w", r.name, err)
		}
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
