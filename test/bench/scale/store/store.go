// SPDX-License-Identifier: Apache-2.0

// Package store writes objects into an API server's etcd as the API server itself would: by the thousand in a second, and with their status.
// Who watches learns of them as of others.
package store

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

const (
	// perRequest is how many objects go into a transaction: etcd takes 128.
	perRequest = 100
	// parallel is how many transactions are under way at a time.
	parallel = 4
)

// Object is one to be written.
type Object struct {
	// Key is where, below /registry/.
	Key string
	// Value is the object, with its kind and API version set.
	Value runtime.Object
	// Custom is whether it is of a CustomResourceDefinition: those are kept as JSON.
	Custom bool
}

// Store is an etcd.
type Store struct {
	address string
	proto   *protobuf.Serializer
}

// New makes one for the etcd at that address. The scheme has to know the built-in types.
func New(address string, scheme *runtime.Scheme) *Store {
	return &Store{address: address, proto: protobuf.NewSerializer(scheme, scheme)}
}

type put struct {
	RequestPut struct {
		Key   []byte `json:"key"`
		Value []byte `json:"value"`
	} `json:"requestPut"`
}

// Write writes count objects, each made when its turn has come.
func (s *Store) Write(ctx context.Context, count int, object func(i int) Object) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for from := 0; from < count; from += perRequest {
		group.Go(func() error {
			puts := make([]put, min(perRequest, count-from))
			for i := range puts {
				o := object(from + i)
				value, err := s.encode(o)
				if err != nil {
					return fmt.Errorf("encoding %q: %w", o.Key, err)
				}
				puts[i].RequestPut.Key, puts[i].RequestPut.Value = []byte("/registry/"+o.Key), value
			}
			return s.commit(ctx, puts)
		})
	}
	return group.Wait()
}

func (s *Store) encode(o Object) ([]byte, error) {
	if o.Custom {
		return json.Marshal(o.Value)
	}
	var out bytes.Buffer
	err := s.proto.Encode(o.Value, &out)
	return out.Bytes(), err
}

// commit writes them in one transaction.
func (s *Store) commit(ctx context.Context, puts []put) error {
	_, err := s.call(ctx, "kv/txn", map[string]any{"success": puts})
	return err
}

// Remove removes everything below the keys, and returns etcd's revision for Compact.
func (s *Store) Remove(ctx context.Context, below ...string) (revision string, err error) {
	for _, key := range below {
		from, end := []byte("/registry/"+key), []byte("/registry/"+key)
		end[len(end)-1]++
		answer, err := s.call(ctx, "kv/deleterange", map[string]any{"key": from, "range_end": end})
		if err != nil {
			return "", err
		}
		var done struct{ Header struct{ Revision string } }
		if err := json.Unmarshal(answer, &done); err != nil {
			return "", fmt.Errorf("reading etcd's answer %q: %w", answer, err)
		}
		revision = done.Header.Revision
	}
	return revision, nil
}

// Compact has etcd forget what was before a revision. The API server has to have seen that by then: of what it is told of later, it does not learn
// what went.
func (s *Store) Compact(ctx context.Context, revision string) error {
	_, err := s.call(ctx, "kv/compaction", map[string]any{"revision": revision, "physical": true})
	return err
}

// call calls etcd's JSON gateway.
func (s *Store) call(ctx context.Context, path string, question any) ([]byte, error) {
	body, err := json.Marshal(question)
	if err != nil {
		return nil, fmt.Errorf("encoding a call of etcd's %q: %w", path, err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.address+"/v3/"+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("calling etcd's %q: %w", path, err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("calling etcd's %q: %w", path, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("calling etcd's %q: %w", path, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("calling etcd's %q: %s: %s", path, response.Status, answer)
	}
	return answer, nil
}
