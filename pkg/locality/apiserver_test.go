// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path"
	"strconv"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
)

// apiServer serves lists and watches of NodeProfiles and PodCheckpoints, as an API server that has their CRDs.
type apiServer struct {
	config  *rest.Config
	missing bool // the CRDs are
	// slow is how long it takes to answer.
	slow time.Duration

	mu       sync.Mutex
	version  int
	objects  map[string]map[string]object // by resource, then by key
	watchers map[string]map[chan metav1.WatchEvent]bool
}

type object interface {
	metav1.Object
	runtime.Object
}

var kinds = map[string]string{"nodeprofiles": "NodeProfile", "podcheckpoints": "PodCheckpoint"}

func startAPIServer(t *testing.T, objects ...object) *apiServer {
	t.Helper()
	s := &apiServer{
		objects:  map[string]map[string]object{},
		watchers: map[string]map[chan metav1.WatchEvent]bool{},
	}
	for resource := range kinds {
		s.objects[resource] = map[string]object{}
		s.watchers[resource] = map[chan metav1.WatchEvent]bool{}
	}
	for _, o := range objects {
		s.put(o)
	}
	server := httptest.NewServer(s)
	s.config = &rest.Config{Host: server.URL}
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return s
}

// put makes or replaces an object.
func (s *apiServer) put(o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource := resourceOf(o)
	key := o.GetNamespace() + "/" + o.GetName()
	event := metav1.WatchEvent{Type: "ADDED"}
	if s.objects[resource][key] != nil {
		event.Type = "MODIFIED"
	}
	s.version++
	o.SetResourceVersion(strconv.Itoa(s.version))
	o.GetObjectKind().SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kinds[resource]))
	s.objects[resource][key] = o
	event.Object = runtime.RawExtension{Object: o.DeepCopyObject()}
	s.send(resource, event)
}

// remove deletes an object.
func (s *apiServer) remove(o object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	resource := resourceOf(o)
	key := o.GetNamespace() + "/" + o.GetName()
	stored := s.objects[resource][key]
	delete(s.objects[resource], key)
	s.send(resource, metav1.WatchEvent{Type: "DELETED", Object: runtime.RawExtension{Object: stored.DeepCopyObject()}})
}

func (s *apiServer) send(resource string, event metav1.WatchEvent) {
	for w := range s.watchers[resource] {
		w <- event
	}
}

func resourceOf(o object) string {
	if _, ok := o.(*v1alpha1.NodeProfile); ok {
		return "nodeprofiles"
	}
	return "podcheckpoints"
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := path.Base(r.URL.Path)
	if s.missing || kinds[resource] == "" {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	time.Sleep(s.slow)
	if r.URL.Query().Get("watch") == "" {
		s.list(w, resource)
		return
	}
	s.watch(w, r, resource)
}

func (s *apiServer) list(w http.ResponseWriter, resource string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]object, 0, len(s.objects[resource]))
	for _, o := range s.objects[resource] {
		items = append(items, o)
	}
	_ = json.NewEncoder(w).Encode(map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(),
		"kind":       kinds[resource] + "List",
		"metadata":   map[string]string{"resourceVersion": strconv.Itoa(s.version)},
		"items":      items,
	})
}

func (s *apiServer) watch(w http.ResponseWriter, r *http.Request, resource string) {
	events := make(chan metav1.WatchEvent, 1000)
	s.mu.Lock()
	if r.URL.Query().Get("sendInitialEvents") == "true" {
		for _, o := range s.objects[resource] {
			events <- metav1.WatchEvent{Type: "ADDED", Object: runtime.RawExtension{Object: o.DeepCopyObject()}}
		}
		events <- metav1.WatchEvent{Type: "BOOKMARK", Object: runtime.RawExtension{Object: &metav1.PartialObjectMetadata{
			TypeMeta: metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kinds[resource]},
			ObjectMeta: metav1.ObjectMeta{
				ResourceVersion: strconv.Itoa(s.version),
				Annotations:     map[string]string{metav1.InitialEventsAnnotationKey: "true"},
			},
		}}}
	}
	s.watchers[resource][events] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.watchers[resource], events)
		s.mu.Unlock()
	}()
	for {
		select {
		case <-r.Context().Done():
			return
		case e := <-events:
			if err := json.NewEncoder(w).Encode(e); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	}
}
