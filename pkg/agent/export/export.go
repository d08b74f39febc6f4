// SPDX-License-Identifier: Apache-2.0

// Package export brings the kubelet's checkpoint archives to the registry and removes them from the node: nobody else ever would.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cryopod/cryopod/pkg/agent/source"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
	"github.com/cryopod/cryopod/pkg/metrics"
)

// DefaultDir is where the kubelet keeps checkpoint archives.
const DefaultDir = "/var/lib/kubelet/checkpoints"

// withdrawal bounds how long the registry is asked to remove the images of one checkpoint.
const withdrawal = 10 * time.Second

// Registry keeps images.
type Registry interface {
	// Push makes an image of an archive and pushes it.
	Push(ctx context.Context, r image.Request) (image.Result, error)
	// Delete removes an image; one that is not there is no error.
	Delete(ctx context.Context, ref string) error
}

// Images knows the images on the node.
type Images interface {
	// ImageConfig returns the OCI configuration of the image that a container was made from.
	ImageConfig(ctx context.Context, containerID string) ([]byte, error)
}

// Exporter exports archives. All fields but Cluster must be set; its methods may be called concurrently.
type Exporter struct {
	// Registry takes the images; Prefix is where in it: registry/path.
	Registry Registry
	Prefix   string
	// Images tells what the containers were made from.
	Images Images
	// Dir is the kubelet's directory of archives.
	Dir string
	// Origin describes the node for the images' annotations.
	Origin func() image.Origin
	// Cluster tells which cluster this is; nil where that is not known.
	Cluster *Cluster
	// Bandwidth learns from each push.
	Bandwidth *Bandwidth
}

var _ source.Exporter = (*Exporter)(nil)

// Tag is the name of a container's checkpoint image: <prefix>/<namespace>:<checkpoint>.<container>.
func Tag(prefix string, checkpoint types.NamespacedName, container string) string {
	return image.Tag(prefix, checkpoint.Namespace, checkpoint.Name, container)
}

// Export implements source.Exporter.
func (e *Exporter) Export(ctx context.Context, p source.Part) (_ v1alpha1.ContainerCheckpoint, err error) {
	file, err := e.inside(p.Archive)
	if err != nil {
		return v1alpha1.ContainerCheckpoint{}, err
	}
	dir, err := os.OpenRoot(e.Dir)
	if err != nil {
		return v1alpha1.ContainerCheckpoint{}, fmt.Errorf("opening the directory of archives: %w", err)
	}
	defer func() { err = errors.Join(err, remove(dir, file), dir.Close()) }()
	raw, err := e.Images.ImageConfig(ctx, p.Container.ID)
	if err != nil {
		return v1alpha1.ContainerCheckpoint{}, err
	}
	base, err := image.ParseBaseConfig(raw)
	if err != nil {
		return v1alpha1.ContainerCheckpoint{}, err
	}
	origin, err := e.origin(ctx, p)
	if err != nil {
		return v1alpha1.ContainerCheckpoint{}, err
	}
	tag := Tag(e.Prefix, p.Checkpoint, p.Container.Name)
	leave := e.Bandwidth.Enter()
	result, err := e.Registry.Push(ctx, image.Request{
		Archive:   func() (io.ReadCloser, error) { return open(dir, file) },
		Container: p.Container.Name, Tag: tag, Base: base, Origin: origin,
	})
	if err != nil {
		leave(0)
		return v1alpha1.ContainerCheckpoint{}, err
	}
	leave(result.PushedBytes)
	metrics.ObserveExport(result.ArchiveBytes, result.PushedBytes)
	return v1alpha1.ContainerCheckpoint{
		Name: p.Container.Name, Image: result.Digest, ImageTag: tag, Bytes: result.ArchiveBytes, PushedBytes: result.PushedBytes,
	}, nil
}

// Clean implements source.Exporter. An archive is taken for ours when its name says so: the kubelet writes into it which container it is of and in
// which second it was begun.
func (e *Exporter) Clean(_ context.Context, namespace, pod string, from, to time.Time) error {
	dir, err := os.OpenRoot(e.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("opening the directory of archives: %w", err)
	}
	defer func() { _ = dir.Close() }()
	all, err := fs.ReadDir(dir.FS(), ".")
	if err != nil {
		return fmt.Errorf("reading archives in %q: %w", e.Dir, err)
	}
	var errs []error
	for _, entry := range all {
		if begun, ok := archiveOf(entry.Name(), namespace, pod); ok && !begun.Before(from.Truncate(time.Second)) && !begun.After(to) {
			errs = append(errs, remove(dir, entry.Name()))
		}
	}
	return errors.Join(errs...)
}

// archiveName is what the kubelet calls the archive of a container (kubernetes pkg/kubelet, CheckpointContainer), after its pod: the container's
// name and the time in RFC 3339.
var archiveName = regexp.MustCompile(`^-[a-z0-9](?:[-a-z0-9]*[a-z0-9])?-(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:Z|[+-]\d{2}:\d{2}))\.tar$`)

// archiveOf tells when an archive of that pod was begun, by its name.
func archiveOf(name, namespace, pod string) (begun time.Time, ok bool) {
	rest, ok := strings.CutPrefix(name, "checkpoint-"+pod+"_"+namespace)
	if !ok {
		return time.Time{}, false
	}
	parts := archiveName.FindStringSubmatch(rest)
	if parts == nil {
		return time.Time{}, false
	}
	begun, err := time.Parse(time.RFC3339, parts[1])
	return begun, err == nil
}

// Withdraw implements source.Exporter.
func (e *Exporter) Withdraw(ctx context.Context, checkpoint types.NamespacedName, containers []string) error {
	ctx, cancel := context.WithTimeout(ctx, withdrawal)
	defer cancel()
	var errs []error
	for _, c := range containers {
		errs = append(errs, e.Registry.Delete(ctx, Tag(e.Prefix, checkpoint, c)))
	}
	return errors.Join(errs...)
}

// inside makes sure that a path which the kubelet answered is one of an archive in its directory, and returns its name there.
func (e *Exporter) inside(path string) (string, error) {
	name := filepath.Base(path)
	if filepath.Dir(path) != filepath.Clean(e.Dir) || !strings.HasPrefix(name, "checkpoint-") {
		return "", fmt.Errorf("opening an archive: the kubelet keeps archives elsewhere than in %q; set --checkpoint-dir", e.Dir)
	}
	return name, nil
}

// open opens a regular file of that name in the directory, and nothing that only looks like one: a pipe would never end.
func open(dir *os.Root, name string) (io.ReadCloser, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("opening archive %q: %w", name, err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("not a regular file")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening archive %q: %w", name, err), f.Close())
	}
	return f, nil
}

func remove(dir *os.Root, name string) error {
	if err := dir.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing archive %q: %w", name, err)
	}
	return nil
}
