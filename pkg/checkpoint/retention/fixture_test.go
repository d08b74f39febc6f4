// SPDX-License-Identifier: Apache-2.0

package retention_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	eventfake "github.com/cryopod/cryopod/pkg/checkpoint/event/fake"
	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
	"github.com/cryopod/cryopod/pkg/image"
)

const prefix = "reg.test/x"

var errAway = errors.New("connection refused")

// registry has images by their names.
type registry struct {
	images map[string]image.Stored
	// failure is what every request gets, refusal what deletions get.
	failure, refusal error
	// catalog is whether it lists its repositories.
	catalog bool
	// deleted is what was asked to be deleted, in order; before is called before each.
	deleted []string
	before  func()
	// listed is called after a list was made.
	listed func()
	// unlisted is a repository whose list fails, unreadable an image that can't be read.
	unlisted, unreadable string
}

func (r *registry) Delete(_ context.Context, ref string) error {
	if r.before != nil {
		r.before()
	}
	if err := errors.Join(r.failure, r.refusal); err != nil {
		return err
	}
	r.deleted = append(r.deleted, ref)
	delete(r.images, ref)
	return nil
}

func (r *registry) Tags(_ context.Context, repository string) ([]string, error) {
	if repository == r.unlisted {
		return nil, errAway
	}
	var tags []string
	for ref := range r.images {
		if tag, ok := strings.CutPrefix(ref, repository+":"); ok {
			tags = append(tags, tag)
		}
	}
	slices.Sort(tags)
	if r.listed != nil {
		r.listed()
	}
	return tags, r.failure
}

func (r *registry) Repositories(context.Context, string) ([]string, error) {
	if !r.catalog {
		return nil, image.ErrListUnsupported
	}
	all := map[string]struct{}{}
	for ref := range r.images {
		rest, _ := strings.CutPrefix(ref, prefix+"/")
		name, _, _ := strings.Cut(rest, ":")
		all[name] = struct{}{}
	}
	return slices.Sorted(maps.Keys(all)), r.failure
}

func (r *registry) Inspect(_ context.Context, ref string) (*image.Stored, error) {
	if ref == r.unreadable {
		return nil, image.ErrUnreadable
	}
	if stored, ok := r.images[ref]; ok {
		return &stored, r.failure
	}
	return nil, r.failure
}

// world is a cluster and a registry.
type world struct {
	client   client.Client
	registry *registry
	events   *eventfake.Recorder
	clock    *clocktesting.FakeClock
	images   *retention.Images
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{registry: &registry{images: map[string]image.Stored{}}, events: &eventfake.Recorder{}, clock: clocktesting.NewFakeClock(start)}
	w.client = fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).WithStatusSubresource(&v1alpha1.PodCheckpoint{}).Build()
	w.images = &retention.Images{
		Registry: w.registry, Prefix: prefix, Events: w.events, Clock: w.clock,
		Self: &corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "cryopod-system", Name: "cryopod-webhook"},
	}
	for _, o := range objects {
		if pc, ok := o.(*v1alpha1.PodCheckpoint); ok && len(pc.Status.Containers) > 0 && pc.Status.Containers[0].ImageTag != "" {
			w.push(pc.Namespace, pc.Name, start)
		}
	}
	return w
}

// push puts an image there, as an agent of this cluster does.
func (w *world) push(namespace, checkpoint string, created time.Time) string {
	ref := image.Tag(prefix, namespace, checkpoint, "app")
	w.registry.images[ref] = image.Stored{
		Digest: "sha256:1", Bytes: 10 * mega, Created: created, Container: "app", Namespace: namespace, Cluster: "this",
	}
	return ref
}

func (w *world) left() []string { return slices.Sorted(maps.Keys(w.registry.images)) }

func (w *world) names(t *testing.T) []string {
	t.Helper()
	var all v1alpha1.PodCheckpointList
	if err := w.client.List(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range all.Items {
		names = append(names, all.Items[i].Name)
	}
	return names
}

func namespace(name string, annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("uid-of-" + name), Annotations: annotations}}
}

func system() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "kube-system", UID: "this"}}
}

func ptrTo(pc v1alpha1.PodCheckpoint) *v1alpha1.PodCheckpoint { return &pc }

func podOf(name string, uid types.UID) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: uid}}
}
