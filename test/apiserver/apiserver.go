// SPDX-License-Identifier: Apache-2.0

// Package apiserver gives tests a real kube-apiserver and etcd with Cryopod's CRDs: no nodes, no controllers.
package apiserver

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

const (
	startTimeout = time.Minute
	toolsTimeout = 30 * time.Minute
)

// Server is a running API server.
type Server struct {
	// Config is an administrator's.
	Config *rest.Config
	// Kubectl is the path of a kubectl of the server's version.
	Kubectl string
	// Checkout is the path of the repository.
	Checkout string

	env *envtest.Environment
}

// Start starts an API server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	s, err := Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Run starts an API server for the tests of a whole package. The caller has to call Stop.
func Run(ctx context.Context) (*Server, error) {
	ctx, cancel := context.WithTimeout(ctx, toolsTimeout)
	defer cancel()
	checkout, err := source.Root()
	if err != nil {
		return nil, err
	}
	tools, err := toolchain.Ensure(ctx, toolchain.Options{Progress: os.Stderr})
	if err != nil {
		return nil, fmt.Errorf("getting kube-apiserver and etcd: %w", err)
	}
	env := &envtest.Environment{
		Scheme:                   Scheme(),
		CRDDirectoryPaths:        []string{filepath.Join(checkout, "manifests", "crd")},
		ErrorIfCRDPathMissing:    true,
		ControlPlaneStartTimeout: startTimeout,
		ControlPlaneStopTimeout:  startTimeout,
	}
	env.ControlPlane.GetAPIServer().Path = filepath.Join(tools.KubernetesDir, "kube-apiserver")
	env.ControlPlane.Etcd = &envtest.Etcd{Path: filepath.Join(tools.RootFS, "usr", "bin", "etcd")}
	env.ControlPlane.KubectlPath = filepath.Join(tools.KubernetesDir, "kubectl")
	config, err := env.Start()
	if err != nil {
		return nil, fmt.Errorf("starting kube-apiserver: %w", err)
	}
	return &Server{Config: config, Kubectl: env.ControlPlane.KubectlPath, Checkout: checkout, env: env}, nil
}

// Stop ends the API server and removes its data.
func (s *Server) Stop() error {
	if err := s.env.Stop(); err != nil {
		return fmt.Errorf("stopping kube-apiserver: %w", err)
	}
	return nil
}

// Etcd is the address of the server's etcd.
func (s *Server) Etcd() string { return s.env.ControlPlane.Etcd.URL.String() }

// Client is a client of the server with Scheme. Each has connections and limits of its own.
func (s *Server) Client() (client.WithWatch, error) {
	c, err := client.NewWithWatch(s.Config, client.Options{Scheme: Scheme()})
	if err != nil {
		return nil, fmt.Errorf("making a client: %w", err)
	}
	return c, nil
}

// WriteKubeconfig writes an administrator's kubeconfig to a new file.
func (s *Server) WriteKubeconfig(path string) error {
	if err := os.WriteFile(path, s.env.KubeConfig, 0o600); err != nil {
		return fmt.Errorf("writing kubeconfig %q: %w", path, err)
	}
	return nil
}

// Webhooks makes the file's webhook configurations for a webhook server on loopback, whose address and certificate the result
// tells. They are in effect when it returns. The caller has to call Cleanup of the result.
func (s *Server) Webhooks(file string) (*envtest.WebhookInstallOptions, error) {
	o := &envtest.WebhookInstallOptions{Paths: []string{filepath.Join(s.Checkout, file)}}
	if err := o.Install(s.Config); err != nil {
		return nil, fmt.Errorf("installing the webhooks of %q: %w", file, err)
	}
	return o, nil
}

// Scheme knows the types of Kubernetes and of Cryopod.
func Scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}
