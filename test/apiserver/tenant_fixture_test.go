// SPDX-License-Identifier: Apache-2.0

//go:build apiserver

package apiserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gomodules.xyz/jsonpatch/v2"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/match"
	"github.com/cryopod/cryopod/test/apiserver"
)

const (
	// registry is where the agents of these tests push.
	registry = "registry.test/ckpt"

	controllers  = "system:serviceaccount:kube-system:"
	replicaSets  = controllers + "replicaset-controller"
	statefulSets = controllers + "statefulset-controller"
)

// eve's rights in a namespace are those of one who deploys: nothing about PodCheckpoints.
var deployer = []rbacv1.PolicyRule{
	{APIGroups: []string{""}, Resources: []string{"pods", "pods/ephemeralcontainers", "replicationcontrollers"}, Verbs: []string{"*"}},
	{APIGroups: []string{"apps"}, Resources: []string{"*"}, Verbs: []string{"*"}},
	{APIGroups: []string{"batch"}, Resources: []string{"*"}, Verbs: []string{"*"}},
}

// clientOf is a client of the user, whom the API server knows by nothing but the name and what was granted to it.
func clientOf(t *testing.T, user string) client.Client {
	t.Helper()
	config := rest.CopyConfig(server.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	c, err := client.New(config, client.Options{Scheme: apiserver.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// grant gives the user the rules in the namespace, and waits until the API server knows.
func grant(t *testing.T, ns, name, user string, rules ...rbacv1.PolicyRule) client.Client {
	t.Helper()
	create(t, &rbacv1.Role{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Rules: rules})
	create(t, &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}},
	})
	c, rule := clientOf(t, user), rules[0]
	ask := func(all []string, otherwise string) string {
		if all[0] == rbacv1.VerbAll {
			return otherwise
		}
		return all[0]
	}
	within(t, 30*time.Second, user+" has what was granted", func() bool {
		review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: ns, Group: rule.APIGroups[0], Resource: ask(rule.Resources, "podcheckpoints"), Verb: ask(rule.Verbs, "create"),
			},
		}}
		return c.Create(t.Context(), review) == nil && review.Status.Allowed
	})
	return c
}

// forgerPath is a webhook that runs after Cryopod's and passes each pod off as one that the controller of ReplicaSets made.
const forgerPath = "/forge-creator"

func forger() ctrladmission.HandlerFunc {
	return func(context.Context, ctrladmission.Request) ctrladmission.Response {
		return ctrladmission.Patched("", jsonpatch.NewOperation("add", "/metadata/annotations/checkpoint.io~1creator", replicaSets))
	}
}

var policiesOnce sync.Once

// policies installs those of the manifests, as they are, for the rest of the package's tests.
func policies(t *testing.T) {
	t.Helper()
	policiesOnce.Do(func() {
		create(t, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: "cryopod-system", Name: "cryopod-agent-x", Labels: map[string]string{"checkpoint.io/registry": "true"}},
			Data:       map[string]string{"registry": registry},
		})
		raw, err := os.ReadFile(filepath.Join(server.Checkout, "manifests", "webhook", "policy.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		for docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(raw), 4096); ; {
			obj := &unstructured.Unstructured{}
			if err := docs.Decode(obj); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			create(t, obj)
		}
	})
	ns := namespace(t, nil)
	eve := grant(t, ns, "probe", "probe", append(deployer, rbacv1.PolicyRule{
		APIGroups: []string{v1alpha1.Group}, Resources: []string{"*"}, Verbs: []string{"*"},
	})...)
	// One refusal of each policy.
	for _, obj := range []client.Object{
		newPod(ns, plain, withImage(registry+"/other:x.main")),
		newDeployment(ns, map[string]string{v1alpha1.AnnotationClaim: "x"}),
		podCheckpoint(ns, "probe", func(pc *v1alpha1.PodCheckpoint) { pc.Spec.Removal = v1alpha1.RemovalEvict }),
	} {
		within(t, 30*time.Second, "the policies are in effect", func() bool {
			return apierrors.IsForbidden(eve.Create(t.Context(), obj.DeepCopyObject().(client.Object), client.DryRunAll))
		})
	}
	own := create(t, newPod(ns))
	within(t, 30*time.Second, "the policies are in effect", func() bool {
		patch := client.MergeFrom(own.DeepCopy())
		changed := own.DeepCopy()
		changed.Annotations[v1alpha1.AnnotationCreator] = "x"
		return apierrors.IsForbidden(eve.Patch(t.Context(), changed, patch, client.DryRunAll))
	})
}

func withImage(image string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Spec.Containers[0].Image = image }
}

func newDeployment(ns string, annotations map[string]string) *appsv1.Deployment {
	labels := map[string]string{"app": "web"}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels, Annotations: annotations}, Spec: newPod(ns).Spec,
			},
		},
	}
}

// realReplicaSet makes a real one, and what its controller makes a pod from.
func realReplicaSet(t *testing.T, ns string) (*appsv1.ReplicaSet, func() *corev1.Pod) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	rs := create(t, &appsv1.ReplicaSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: "web"},
		Spec: appsv1.ReplicaSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: newPod(ns).Spec},
		},
	})
	return rs, func() *corev1.Pod { return newPod(ns, ownedBy("apps/v1", "ReplicaSet", rs)) }
}

func ownedBy(version, kind string, owner client.Object) func(*corev1.Pod) {
	return func(p *corev1.Pod) {
		p.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: version, Kind: kind, Name: owner.GetName(), UID: owner.GetUID(), Controller: ptr.To(true),
		}}
	}
}

// savedBy makes a Ready checkpoint of the pod, which the user made and which is gone.
func savedBy(t *testing.T, user client.Client, pod *corev1.Pod) *v1alpha1.PodCheckpoint {
	t.Helper()
	if err := user.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	pod = getPod(t, pod)
	pc := match.NewCheckpoint(pod, match.Request{Attempt: 1, Reason: v1alpha1.ReasonEviction, Fence: true})
	pc.Spec.NodeName = "node-a"
	create(t, pc)
	if err := setPhase(t.Context(), pod, v1alpha1.PhaseReady, ""); err != nil {
		t.Fatal(err)
	}
	if err := admin.Get(t.Context(), client.ObjectKeyFromObject(pc), pc); err != nil {
		t.Fatal(err)
	}
	pc.Status.Creator = pod.Annotations[v1alpha1.AnnotationCreator]
	if err := admin.Status().Update(t.Context(), pc); err != nil {
		t.Fatal(err)
	}
	if err := admin.Delete(t.Context(), pod, client.GracePeriodSeconds(0)); err != nil {
		t.Fatal(err)
	}
	within(t, 30*time.Second, "the webhook's cache has the checkpoint", func() bool {
		seen := &v1alpha1.PodCheckpoint{}
		return cached.Get(t.Context(), client.ObjectKeyFromObject(pc), seen) == nil && seen.ResourceVersion == pc.ResourceVersion
	})
	return pc
}
