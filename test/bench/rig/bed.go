// SPDX-License-Identifier: Apache-2.0

// Package rig runs Cryopod's programs, as many of each as one likes, before a real API server and with the rights that the manifests give
// them.
package rig

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/apiserver"
)

// Namespace is where the manifests put Cryopod.
const Namespace = "cryopod-system"

// Node is the name of the node that the programs take themselves to run on.
const Node = "node-00000"

// Bed is a real API server with all manifests applied, and nothing that carries them out.
type Bed struct {
	*apiserver.Server
	// Admin is an administrator, whose calls nothing slows down on this side.
	Admin client.WithWatch
	// AdminConfig is that administrator's.
	AdminConfig *rest.Config
	// Dir is a folder for whatever, which goes with the bed.
	Dir string
}

// New starts one. The caller has to call Close.
func New(ctx context.Context) (b *Bed, err error) {
	b = &Bed{}
	if b.Dir, err = os.MkdirTemp("", "cryopod-bench-"); err != nil {
		return nil, fmt.Errorf("making a folder: %w", err)
	}
	if b.Server, err = apiserver.Run(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.Dir))
	}
	if err := b.prepare(ctx); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Close ends the API server and removes what New made. Programs have to be ended before.
func (b *Bed) Close() error {
	return errors.Join(b.Stop(), os.RemoveAll(b.Dir))
}

func (b *Bed) prepare(ctx context.Context) (err error) {
	b.AdminConfig = rest.CopyConfig(b.Config)
	b.AdminConfig.QPS, b.AdminConfig.WarningHandler = -1, rest.NoWarnings{}
	if b.Admin, err = client.NewWithWatch(b.AdminConfig, client.Options{Scheme: apiserver.Scheme()}); err != nil {
		return fmt.Errorf("making a client: %w", err)
	}
	if err := b.writeKubeconfig("admin", ""); err != nil {
		return err
	}
	for _, program := range []string{"webhook", "scheduler", "agent"} {
		if err := b.writeKubeconfig(program, "system:serviceaccount:"+Namespace+":cryopod-"+program); err != nil {
			return err
		}
	}
	apply := exec.CommandContext(ctx, b.Kubectl, "--kubeconfig", b.Kubeconfig("admin"),
		"apply", "--server-side", "--force-conflicts", "-k", filepath.Join(b.Checkout, "manifests"))
	if out, err := apply.CombinedOutput(); err != nil {
		return fmt.Errorf("applying the manifests: %w\n%s", err, out)
	}
	return nil
}

// Kubeconfig is the file by which a program acts as its ServiceAccount: webhook, scheduler or agent; or an administrator: admin.
func (b *Bed) Kubeconfig(program string) string { return filepath.Join(b.Dir, program+".kubeconfig") }

func (b *Bed) writeKubeconfig(program, user string) error {
	k := clientcmdapi.NewConfig()
	k.Clusters["it"] = &clientcmdapi.Cluster{Server: b.Config.Host, CertificateAuthorityData: b.Config.CAData}
	k.AuthInfos["it"] = &clientcmdapi.AuthInfo{ClientCertificateData: b.Config.CertData, ClientKeyData: b.Config.KeyData, Impersonate: user}
	if user != "" {
		// The API server puts a pod's node into its token: the policy of the agents heeds it.
		k.AuthInfos["it"].ImpersonateUserExtra = map[string][]string{"authentication.kubernetes.io/node-name": {Node}}
		k.AuthInfos["it"].ImpersonateGroups = []string{"system:serviceaccounts", "system:serviceaccounts:" + Namespace, "system:authenticated"}
	}
	k.Contexts["it"] = &clientcmdapi.Context{Cluster: "it", AuthInfo: "it"}
	k.CurrentContext = "it"
	if err := clientcmd.WriteToFile(*k, b.Kubeconfig(program)); err != nil {
		return fmt.Errorf("writing the kubeconfig of %q: %w", program, err)
	}
	return nil
}

// PretendScheduler makes the Lease that Cryopod's scheduler would hold, so that pods are sent to it.
func (b *Bed) PretendScheduler(ctx context.Context) error {
	lease := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "cryopod-scheduler"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("bench"), LeaseDurationSeconds: ptr.To(int32((24 * time.Hour).Seconds())), RenewTime: ptr.To(metav1.NowMicro()),
		},
	}
	if err := b.Admin.Create(ctx, lease); err != nil {
		return fmt.Errorf("making the scheduler's Lease: %w", err)
	}
	return nil
}

// Build compiles a program of Cryopod as users get it, and returns its path.
func (b *Bed) Build(ctx context.Context, program string) (string, error) {
	path := filepath.Join(b.Dir, program)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", path, "./cmd/"+program)
	build.Dir, build.Env = b.Checkout, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %q: %w\n%s", program, err, out)
	}
	return path, nil
}
