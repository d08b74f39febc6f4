// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/checkpoint/index"
)

// api is the API server as one process sees it. What is not implemented panics, as no production code that runs here calls it.
type api struct {
	client.Client
	p *Proc
	// live reads past the cache.
	live bool
}

var errUnknown = errors.New("the world does not know this call")

// into copies an object into the one that the caller gave.
func into(out, in client.Object) {
	reflect.ValueOf(out).Elem().Set(reflect.ValueOf(clone(in)).Elem())
}

// Get implements client.Reader.
func (c *api) Get(ctx context.Context, key client.ObjectKey, obj client.Object, _ ...client.GetOption) error {
	r := ref{kindOf(obj), key}
	if !c.live {
		return found(r, c.p.cache.now[r], obj)
	}
	var got client.Object
	err := c.p.do(ctx, read, fmt.Sprintf("reads %s %s", r.kind, key.Name), func() error {
		got = c.p.w.get(r)
		return nil
	})
	if err != nil {
		return err
	}
	return found(r, got, obj)
}

func found(r ref, in, out client.Object) error {
	if in == nil {
		return notFound(r)
	}
	into(out, in)
	return nil
}

// List implements client.Reader.
func (c *api) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	o := &client.ListOptions{}
	o.ApplyOptions(opts)
	from := c.p.w.objects
	if c.live {
		err := c.p.do(ctx, read, "lists "+kindOf(list)+"s", func() error {
			from = c.p.w.objects
			return nil
		})
		if err != nil {
			return err
		}
	} else {
		from = c.p.cache.now
	}
	switch l := list.(type) {
	case *corev1.PodList:
		for _, pod := range all[*corev1.Pod](from) {
			if selects(o, pod) {
				l.Items = append(l.Items, *pod.DeepCopy())
			}
		}
	case *v1alpha1.PodCheckpointList:
		for _, pc := range all[*v1alpha1.PodCheckpoint](from) {
			if selects(o, pc) {
				l.Items = append(l.Items, *pc.DeepCopy())
			}
		}
	case *policyv1.PodDisruptionBudgetList, *corev1.ResourceQuotaList:
	default:
		return fmt.Errorf("listing %T: %w", list, errUnknown)
	}
	return nil
}

// indexes are those of the caches.
var indexes = map[string]func(client.Object) []string{
	index.PodRestoreFrom: index.ByRestoreFrom, index.CheckpointPodUID: index.ByPodUID, index.NodeName: index.ByNodeName,
}

func selects(o *client.ListOptions, obj client.Object) bool {
	if o.Namespace != "" && obj.GetNamespace() != o.Namespace {
		return false
	}
	if o.LabelSelector != nil && !o.LabelSelector.Matches(labels.Set(obj.GetLabels())) {
		return false
	}
	if o.FieldSelector == nil {
		return true
	}
	for _, want := range o.FieldSelector.Requirements() {
		ok := false
		for _, has := range indexes[want.Field](obj) {
			ok = ok || has == want.Value
		}
		if !ok {
			return false
		}
	}
	return true
}

// Create implements client.Writer.
func (c *api) Create(ctx context.Context, obj client.Object, _ ...client.CreateOption) error {
	in := clone(obj)
	var out client.Object
	err := c.p.do(ctx, write, fmt.Sprintf("creates %s %s", kindOf(obj), obj.GetName()), func() (err error) {
		out, err = c.p.w.create(in)
		return err
	})
	if err != nil {
		return err
	}
	into(obj, out)
	return nil
}

// Delete implements client.Writer. Cryopod's own deletions of pods pass its webhook.
func (c *api) Delete(ctx context.Context, obj client.Object, opts ...client.DeleteOption) error {
	o := &client.DeleteOptions{}
	o.ApplyOptions(opts)
	return c.p.do(ctx, write, fmt.Sprintf("deletes %s %s", kindOf(obj), obj.GetName()), func() error {
		return c.p.w.deleteObject(refOf(obj), o)
	})
}

// Patch implements client.Writer.
func (c *api) Patch(ctx context.Context, obj client.Object, patch client.Patch, _ ...client.PatchOption) error {
	data, err := patch.Data(obj)
	if err != nil {
		return err
	}
	var out client.Object
	r := refOf(obj)
	err = c.p.do(ctx, write, fmt.Sprintf("patches %s %s", r.kind, r.key.Name), func() (err error) {
		out, err = c.p.w.patch(r, patch.Type(), data)
		return err
	})
	if err != nil {
		return err
	}
	into(obj, out)
	return nil
}

// patch is the API server's: it fails where the patch names another resourceVersion or UID.
func (w *World) patch(r ref, how types.PatchType, data []byte) (client.Object, error) {
	cur := w.objects[r]
	if cur == nil {
		return nil, notFound(r)
	}
	var pre struct {
		Metadata struct {
			UID             types.UID `json:"uid"`
			ResourceVersion string    `json:"resourceVersion"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(data, &pre); err != nil {
		return nil, err
	}
	if m := pre.Metadata; m.UID != "" && m.UID != cur.GetUID() || m.ResourceVersion != "" && m.ResourceVersion != cur.GetResourceVersion() {
		return nil, conflict(r, "the object has been modified")
	}
	text, err := json.Marshal(cur)
	if err != nil {
		return nil, err
	}
	if how == types.StrategicMergePatchType {
		text, err = strategicpatch.StrategicMergePatch(text, data, cur)
	} else {
		text, err = jsonpatch.MergePatch(text, data)
	}
	if err != nil {
		return nil, err
	}
	next, _ := reflect.New(reflect.TypeOf(cur).Elem()).Interface().(client.Object)
	if err := json.Unmarshal(text, next); err != nil {
		return nil, err
	}
	return w.put(next), nil
}

// Status implements client.StatusClient.
func (c *api) Status() client.SubResourceWriter { return &status{api: c} }

// SubResource implements client.SubResourceClientConstructor.
func (c *api) SubResource(string) client.SubResourceClient { return &eviction{api: c} }

type status struct {
	client.SubResourceWriter
	api *api
}

// Update implements client.SubResourceWriter.
func (s *status) Update(ctx context.Context, obj client.Object, _ ...client.SubResourceUpdateOption) error {
	pc, ok := obj.(*v1alpha1.PodCheckpoint)
	if !ok {
		return errUnknown
	}
	in, w := pc.DeepCopy(), s.api.p.w
	var out client.Object
	err := s.api.p.do(ctx, write, "writes "+said(in), func() (err error) {
		out, err = w.updateStatus(in)
		return err
	})
	if err != nil {
		return err
	}
	into(obj, out)
	return nil
}

// said is what a written status says, for the story.
func said(pc *v1alpha1.PodCheckpoint) string {
	text := fmt.Sprintf("%s into %s", pc.Status.Phase, pc.Name)
	if c := pc.Status.Claim; c != nil {
		text += fmt.Sprintf(" (claim %s, pod %q)", c.ID, c.PodName)
	}
	return text
}

// Patch implements client.SubResourceWriter.
func (s *status) Patch(ctx context.Context, obj client.Object, patch client.Patch, _ ...client.SubResourcePatchOption) error {
	return s.api.Patch(ctx, obj, patch)
}

type eviction struct {
	client.SubResourceClient
	api *api
}

// Create implements client.SubResourceWriter: it evicts a pod.
func (e *eviction) Create(ctx context.Context, obj, sub client.Object, _ ...client.SubResourceCreateOption) error {
	ev, ok := sub.(*policyv1.Eviction)
	if !ok {
		return errUnknown
	}
	return e.api.p.evict(ctx, obj.GetName(), ev.DeleteOptions)
}
