// SPDX-License-Identifier: Apache-2.0

package locality

import (
	"context"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// data is the plugin's view of NodeProfiles and PodCheckpoints, each stripped to what the plugin asks for.
//
// It has informers of its own in the place of those that the scheduler makes for an EventResource such as
// nodeprofiles.v1alpha1.checkpoint.io: the scheduler waits for the latter without limit, so that it would schedule nothing at all
// once it starts in a cluster without the CRDs; and they would keep every object a second time, unstripped.
type data struct {
	nodes, checkpoints cache.SharedIndexInformer
	images             *catalog
	handled            []cache.InformerSynced
	// failed is set when something could not be read: a CRD may not be there.
	failed atomic.Bool
}

// newData connects to the API server lazily: it fails on a bad configuration only.
func newData(config *rest.Config) (*data, error) {
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	// Errors of the API server are v1 Status objects.
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})

	c := rest.CopyConfig(config)
	c.APIPath = "/apis"
	c.GroupVersion = &v1alpha1.GroupVersion
	c.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	// The scheduler's own choice is protobuf, which custom resources do not have.
	c.ContentType, c.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	client, err := rest.RESTClientFor(rest.AddUserAgent(c, "cryopod-locality"))
	if err != nil {
		return nil, err
	}
	return dataOf(informer(client, "nodeprofiles", &v1alpha1.NodeProfile{}), informer(client, "podcheckpoints", &v1alpha1.PodCheckpoint{}))
}

// dataOf is what informers that nobody has started tell.
func dataOf(nodes, checkpoints cache.SharedIndexInformer) (*data, error) {
	d := &data{nodes: nodes, checkpoints: checkpoints, images: newCatalog()}
	for _, i := range []cache.SharedIndexInformer{d.nodes, d.checkpoints} {
		if err := i.SetTransform(strip); err != nil {
			return nil, err
		}
		err := i.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
			d.failed.Store(true)
			cache.DefaultWatchErrorHandler(ctx, r, err)
		})
		if err != nil {
			return nil, err
		}
	}
	return d, nil
}

func informer(client rest.Interface, resource string, example runtime.Object) cache.SharedIndexInformer {
	lw := cache.NewListWatchFromClient(client, resource, metav1.NamespaceAll, fields.Everything())
	return cache.NewSharedIndexInformerWithOptions(lw, example, cache.SharedIndexInformerOptions{ObjectDescription: resource})
}

// strip is the informers' transformation. It leaves alone what was stripped before.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *v1alpha1.NodeProfile:
		return newNode(o), nil
	case *v1alpha1.PodCheckpoint:
		return newCheckpoint(o), nil
	default:
		return obj, nil
	}
}

// subscribe calls the functions on each change, after the view has it; before is nil for an addition, after for a deletion.
func (d *data) subscribe(nodeChanged func(before, after *node), checkpointChanged func(before, after *checkpoint)) error {
	nodes, err := d.nodes.AddEventHandler(handler(func(before, after *node) {
		d.images.replace(before, after)
		nodeChanged(before, after)
	}))
	if err != nil {
		return err
	}
	checkpoints, err := d.checkpoints.AddEventHandler(handler(checkpointChanged))
	if err != nil {
		return err
	}
	d.handled = []cache.InformerSynced{nodes.HasSynced, checkpoints.HasSynced}
	return nil
}

func handler[T any](changed func(before, after *T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(obj any) {
			if after, ok := obj.(*T); ok {
				changed(nil, after)
			}
		},
		UpdateFunc: func(oldObj, newObj any) {
			before, okBefore := oldObj.(*T)
			after, okAfter := newObj.(*T)
			if okBefore && okAfter {
				changed(before, after)
			}
		},
		DeleteFunc: func(obj any) {
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			if before, ok := obj.(*T); ok {
				changed(before, nil)
			}
		},
	}
}

// start runs the informers until ctx is done.
func (d *data) start(ctx context.Context) {
	go d.nodes.RunWithContext(ctx)
	go d.checkpoints.RunWithContext(ctx)
}

// comingWait is how many times as long what comes is waited for, as thousands of NodeProfiles do for a while, as what may not be there at all.
const comingWait = 12

// wait reports whether everything was read and handled before the limit, or before comingWait limits where nothing has failed by the first.
func (d *data) wait(ctx context.Context, limit time.Duration) bool {
	soon, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if cache.WaitForCacheSync(soon.Done(), d.handled...) {
		return true
	}
	if d.failed.Load() {
		return false
	}
	later, cancel := context.WithTimeout(ctx, (comingWait-1)*limit)
	defer cancel()
	return cache.WaitForCacheSync(later.Done(), d.handled...)
}

// profiled reports whether the NodeProfiles were read: only then does the absence of one tell anything.
func (d *data) profiled() bool { return d.nodes.HasSynced() }

// node returns nil for a node without a profile.
func (d *data) node(name string) *node { return d.images.node(name) }

// checkpoint returns nil for one that is not known (yet, or any more).
func (d *data) checkpoint(namespace, name string) *checkpoint {
	return stored[checkpoint](d.checkpoints, cache.NewObjectName(namespace, name).String())
}

func stored[T any](i cache.SharedIndexInformer, key string) *T {
	// A lookup by key in the informer's store never fails.
	obj, _, _ := i.GetStore().GetByKey(key)
	found, _ := obj.(*T)
	return found
}
