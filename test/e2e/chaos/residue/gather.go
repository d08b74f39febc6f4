// SPDX-License-Identifier: Apache-2.0

package residue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	ctrlclient "sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/agent/containerd"
	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/install"
)

const (
	archivesDir = "/var/lib/kubelet/checkpoints"
	stateDir    = "/var/lib/cryopod"
	ledgerFile  = "frozen.json"
	// checkpoints is the registry's folder of what the agents push.
	checkpoints = "checkpoints"
	// nodeTimeout bounds the look at one node.
	nodeTimeout = 20 * time.Second
)

func gather(ctx context.Context, b *bed.Bed) (*Facts, error) {
	f := &Facts{}
	for _, n := range b.Cluster.Nodes() {
		if !n.Running() {
			continue
		}
		node, err := look(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("looking at what is on %s: %w", n.Name(), err)
		}
		f.Nodes = append(f.Nodes, *node)
	}
	if err := f.registry(ctx, b); err != nil {
		return nil, err
	}
	if err := f.api(ctx, b); err != nil {
		return nil, err
	}
	f.Now = time.Now()
	return f, nil
}

func (f *Facts) api(ctx context.Context, b *bed.Bed) error {
	var pods corev1.PodList
	var pcs v1alpha1.PodCheckpointList
	var profiles v1alpha1.NodeProfileList
	var nodes corev1.NodeList
	var leases coordinationv1.LeaseList
	err := errors.Join(b.Client.List(ctx, &pods), b.Client.List(ctx, &pcs), b.Client.List(ctx, &profiles), b.Client.List(ctx, &nodes),
		b.Client.List(ctx, &leases, ctrlclient.InNamespace(install.Namespace)))
	if err != nil {
		return fmt.Errorf("reading what the API server has: %w", err)
	}
	f.Pods, f.PodCheckpoints = pods.Items, pcs.Items
	for i := range profiles.Items {
		f.Profiles = append(f.Profiles, profiles.Items[i].Name)
	}
	for i := range nodes.Items {
		f.Members = append(f.Members, nodes.Items[i].Name)
	}
	for i := range leases.Items {
		f.Leases = append(f.Leases, leases.Items[i].Name)
	}
	return nil
}

func (f *Facts) registry(ctx context.Context, b *bed.Bed) error {
	registry, prefix := &image.Pusher{}, b.Cluster.RegistryHostAddress()+"/"+checkpoints
	namespaces, err := registry.Repositories(ctx, prefix)
	if err != nil {
		return fmt.Errorf("reading what the registry has: %w", err)
	}
	for _, ns := range namespaces {
		tags, err := registry.Tags(ctx, image.Repository(prefix, ns))
		if err != nil {
			return fmt.Errorf("reading what the registry has of namespace %q: %w", ns, err)
		}
		for _, tag := range tags {
			stored, err := registry.Inspect(ctx, image.Repository(prefix, ns)+":"+tag)
			if err != nil && !errors.Is(err, image.ErrUnreadable) {
				return fmt.Errorf("reading what the registry has of namespace %q: %w", ns, err)
			}
			if stored == nil && err == nil {
				continue
			}
			t := Tag{Namespace: ns, Tag: tag}
			if stored != nil {
				t.Created = stored.Created
			}
			f.Tags = append(f.Tags, t)
		}
	}
	return nil
}

// look gathers what is on a node. A file is read before what it may belong to, and containers before their pods.
func look(ctx context.Context, n *cluster.Node) (*Node, error) {
	ctx, cancel := context.WithTimeout(ctx, nodeTimeout)
	defer cancel()
	root, err := n.Root()
	if err != nil {
		return nil, err
	}
	node := &Node{Name: n.Name()}
	if node.Archives, err = files(filepath.Join(root, archivesDir)); err != nil {
		return nil, err
	}
	if node.State, err = files(filepath.Join(root, stateDir)); err != nil {
		return nil, err
	}
	if node.Ledger, err = ledger(filepath.Join(root, stateDir, ledgerFile)); err != nil {
		return nil, err
	}
	if node.Mounts, err = mounts(ctx, n); err != nil {
		return nil, err
	}
	c, err := client.New(filepath.Join(root, containerd.DefaultSocket),
		client.WithDefaultNamespace(containerd.Namespace), client.WithTimeout(nodeTimeout))
	if err != nil {
		return nil, fmt.Errorf("reaching containerd: %w", err)
	}
	defer c.Close()
	return node, errors.Join(node.tasks(ctx, c), node.images(ctx, c), node.leases(ctx, c))
}

func files(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing files: %w", err)
	}
	var found []File
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("listing files: %w", err)
		}
		found = append(found, File{Name: e.Name(), Changed: info.ModTime()})
	}
	return found, nil
}

func ledger(path string) ([]fence.Entry, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var entries []fence.Entry
	if err == nil {
		err = json.Unmarshal(raw, &entries)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the agent's ledger: %w", err)
	}
	return entries, nil
}

// mounts are those of the node's init, which all of the node's programs share.
func mounts(ctx context.Context, n *cluster.Node) ([]string, error) {
	out, err := n.Exec(ctx, "cat", "/proc/mounts")
	if err != nil {
		return nil, err
	}
	var points []string
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); len(fields) > 1 {
			points = append(points, fields[1])
		}
	}
	return points, nil
}

func (n *Node) tasks(ctx context.Context, c *client.Client) error {
	all, err := c.Containers(ctx)
	if err != nil {
		return fmt.Errorf("listing containers: %w", err)
	}
	for _, one := range all {
		n.Containers = append(n.Containers, one.ID())
		labels, err := one.Labels(ctx)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading container %q: %w", one.ID(), err)
		}
		task, err := one.Task(ctx, nil)
		if errdefs.IsNotFound(err) {
			continue
		}
		var status client.Status
		if err == nil {
			status, err = task.Status(ctx)
		}
		if errdefs.IsNotFound(err) || err == nil && status.Status == client.Stopped {
			continue
		}
		if err != nil {
			return fmt.Errorf("reading the task of container %q: %w", one.ID(), err)
		}
		n.Tasks = append(n.Tasks, Task{
			ID: one.ID(), PodUID: labels["io.kubernetes.pod.uid"], Namespace: labels["io.kubernetes.pod.namespace"],
			Pod: labels["io.kubernetes.pod.name"], Container: labels["io.kubernetes.container.name"],
			Paused: status.Status == client.Paused || status.Status == client.Pausing,
		})
	}
	return nil
}

func (n *Node) images(ctx context.Context, c *client.Client) error {
	all, err := c.ImageService().List(ctx)
	if err != nil {
		return fmt.Errorf("listing images: %w", err)
	}
	for _, i := range all {
		n.Images = append(n.Images, Image{Name: i.Name, Created: i.CreatedAt, Checkpoint: isCheckpoint(ctx, c.ContentStore(), i)})
	}
	return nil
}

func isCheckpoint(ctx context.Context, store content.Provider, i images.Image) bool {
	raw, err := content.ReadBlob(ctx, store, i.Target)
	if err != nil {
		return false
	}
	var blob struct {
		Annotations map[string]string `json:"annotations"`
	}
	return json.Unmarshal(raw, &blob) == nil && blob.Annotations[criu.CheckpointAnnotationName] != ""
}

func (n *Node) leases(ctx context.Context, c *client.Client) error {
	all, err := c.LeasesService().List(ctx)
	if err != nil {
		return fmt.Errorf("listing containerd's leases: %w", err)
	}
	for _, l := range all {
		n.Leases = append(n.Leases, Lease{ID: l.ID, Created: l.CreatedAt, Expires: l.Labels["containerd.io/gc.expire"] != ""})
	}
	return nil
}
