// SPDX-License-Identifier: Apache-2.0

// Package containerd speaks to a node's containerd: to its own services for what the CRI does not offer (pausing tasks, image
// content, events), and to its CRI.
package containerd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/containerd/containerd/v2/client"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Namespace is containerd's namespace of everything that the kubelet made.
const Namespace = "k8s.io"

// DefaultSocket is where containerd listens.
const DefaultSocket = "/run/containerd/containerd.sock"

// Client speaks to containerd. It connects when it is first used, and again when containerd was restarted. Its methods may be
// called concurrently.
type Client struct {
	client *client.Client
	// stateDir is containerd's state directory, where its shims are found.
	stateDir string
	// Runtime and Images are the CRI's services.
	Runtime runtimeapi.RuntimeServiceClient
	Images  runtimeapi.ImageServiceClient
}

// New returns a client of the containerd that listens on the socket.
func New(socket string) (*Client, error) {
	c, err := client.New(socket, client.WithDefaultNamespace(Namespace))
	if err != nil {
		return nil, fmt.Errorf("making a client of containerd at %q: %w", socket, err)
	}
	conn, ok := c.Conn().(grpc.ClientConnInterface)
	if !ok {
		return nil, fmt.Errorf("making a client of containerd at %q: no gRPC connection", socket)
	}
	return &Client{
		client: c, stateDir: filepath.Dir(socket),
		Runtime: runtimeapi.NewRuntimeServiceClient(conn),
		Images:  runtimeapi.NewImageServiceClient(conn),
	}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.client.Close() }

// Identity is the runtime as it now runs.
type Identity struct {
	// Name is the runtime and its version as nodes report it (containerd://2.3.7); Version is the version alone.
	Name, Version string
	// Fingerprint changes with the version, the configuration, and each start of the runtime.
	Fingerprint string
}

// Identity tells what runs.
func (c *Client) Identity(ctx context.Context) (Identity, error) {
	version, err := c.Runtime.Version(ctx, &runtimeapi.VersionRequest{})
	if err != nil {
		return Identity{}, fmt.Errorf("asking the runtime for its version: %w", err)
	}
	status, err := c.Runtime.Status(ctx, &runtimeapi.StatusRequest{Verbose: true})
	if err != nil {
		return Identity{}, fmt.Errorf("asking the runtime for its configuration: %w", err)
	}
	server, err := c.client.IntrospectionService().Server(ctx)
	if err != nil {
		return Identity{}, fmt.Errorf("asking containerd for its process: %w", err)
	}
	raw, err := json.Marshal([]any{version.GetRuntimeName(), version.GetRuntimeVersion(), status.GetInfo()["config"], server.GetPid(), server.GetUUID()})
	if err != nil {
		return Identity{}, fmt.Errorf("summing up the runtime: %w", err)
	}
	sum := sha256.Sum256(raw)
	plain := version.GetRuntimeVersion()
	if len(plain) > 1 && plain[0] == 'v' {
		plain = plain[1:]
	}
	return Identity{
		Name:        version.GetRuntimeName() + "://" + plain,
		Version:     plain,
		Fingerprint: hex.EncodeToString(sum[:8]),
	}, nil
}

// ListContainers lists the containers that the CRI knows.
func (c *Client) ListContainers(ctx context.Context, in *runtimeapi.ListContainersRequest) ([]*runtimeapi.Container, error) {
	answer, err := c.Runtime.ListContainers(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("asking the runtime for its containers: %w", err)
	}
	return answer.GetContainers(), nil
}

// Serving reports whether containerd answers.
func (c *Client) Serving(ctx context.Context) error {
	if _, err := c.client.VersionService().Version(ctx, &emptypb.Empty{}); err != nil {
		return fmt.Errorf("asking containerd for its version: %w", err)
	}
	return nil
}

// Watch calls changed after each event whose topic matches one of the filters (containerd's filter syntax), and once at its
// beginning. It returns when the stream ends: after that, events may have been missed.
func (c *Client) Watch(ctx context.Context, changed func(), filters ...string) error {
	events, errs := c.client.EventService().Subscribe(ctx, slices.Clone(filters)...)
	changed()
	for {
		select {
		case <-events:
			changed()
		case err := <-errs:
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("reading containerd's events: %w", err)
		}
	}
}
