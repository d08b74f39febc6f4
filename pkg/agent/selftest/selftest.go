// SPDX-License-Identifier: Apache-2.0

// Package selftest finds out whether a node can checkpoint and restore, by doing it: it checkpoints a tiny process of the agent's
// own and restores it on the same node, the way that pods are restored by the method `image`, without an object in the API.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/agent/dump"
	"github.com/cryopod/cryopod/pkg/agent/fence"
	"github.com/cryopod/cryopod/pkg/agent/profile"
	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/image"
)

const (
	// imageName is the name of the checkpoint image in the node's store while the test runs.
	imageName = "cryopod.io/selftest:checkpoint"
	// archiveName is the archive in Dir while the test runs.
	archiveName = "selftest-checkpoint.tar"
	// longest bounds a test, cleaning the bounds of what follows it.
	longest  = 90 * time.Second
	cleaning = 30 * time.Second
	// pollEvery is the pause between two looks at the process.
	pollEvery = 20 * time.Millisecond
	// defaultPatience is how long the process may take until it is seen to count.
	defaultPatience = 10 * time.Second
)

// Store puts images into the runtime's store.
type Store interface {
	// Load puts an image into the store under a name, unpacked.
	Load(ctx context.Context, name string, img v1.Image, snapshotter string) error
	// Unload removes an image; one that is not there is no error.
	Unload(ctx context.Context, name string) error
	// Snapshotter returns the snapshotter that a container's root file system is in.
	Snapshotter(ctx context.Context, containerID string) (string, error)
	// ImageConfig returns the configuration of a container's image.
	ImageConfig(ctx context.Context, containerID string) ([]byte, error)
}

// Tester runs the test. All fields must be set. It must not run twice at the same time.
type Tester struct {
	// Runtime and Images are the CRI.
	Runtime runtimeapi.RuntimeServiceClient
	Images  runtimeapi.ImageServiceClient
	// Store is the runtime's image store, Fence freezes.
	Store Store
	Fence fence.Fence
	// Self is the agent's own pod; Executable the path of the agent's program in its image.
	Self       Self
	Executable string
	// Dir is a directory that has the same path on the node and here.
	Dir string
	// StateDir is containerd's state directory, where a failed dump leaves CRIU's log.
	StateDir string
	// Patience is how long the process may take until it is seen to count; 0 means 10 s.
	Patience time.Duration
}

// Report is what a test found.
type Report struct {
	// Test is the result.
	profile.Test
	// CRIUVersion is the version that wrote the dump; empty when there is none.
	CRIUVersion string
	// CleaningFailure is why something of the test was left on the node.
	CleaningFailure error
}

// Run checkpoints and restores, and removes what it made, whatever happens. version is the runtime's version.
func (t *Tester) Run(ctx context.Context, version string) Report {
	start := time.Now()
	run := &run{Tester: t}
	testCtx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	err := run.test(testCtx)
	took := time.Since(start)

	cleanCtx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleaning)
	defer stop()
	report := Report{CRIUVersion: run.criuVersion, CleaningFailure: run.clean(cleanCtx)}
	report.Done = true
	report.Method = v1alpha1.RestoreMethod{Name: v1alpha1.RestoreMethodImage, Verified: err == nil, Time: new(metav1.Now())}
	switch {
	case err == nil:
		report.Method.Message = fmt.Sprintf("checkpointed and restored a process of its own in %s", took.Round(10*time.Millisecond))
	case run.dumped:
		report.Method.Message = explainRestore(err, version)
	default:
		report.DumpFailure = explainDump(err)
		report.Method.Message = report.DumpFailure
	}
	return report
}

// run is one run of the test.
type run struct {
	*Tester
	home        *home
	dumped      bool
	criuVersion string
}

func (r *run) test(ctx context.Context) (err error) {
	if r.home, err = r.findHome(ctx); err != nil {
		return err
	}
	if err := r.clean(ctx); err != nil {
		return err
	}
	before, archive, err := r.checkpoint(ctx)
	if err != nil {
		return err
	}
	r.dumped = true
	if err := r.load(ctx, archive); err != nil {
		return err
	}
	id, err := r.start(ctx, r.home, imageName)
	if err != nil {
		return err
	}
	after, err := r.seen(ctx, id)
	if err != nil {
		return fmt.Errorf("looking at the restored process: %w", err)
	}
	if after.nonce != before.nonce || after.count <= before.count {
		return fmt.Errorf("the process was started anew instead of restored: it counted to %d before, to %d after, with another nonce", before.count, after.count)
	}
	return nil
}

// checkpoint runs a process, freezes it, has the runtime checkpoint it, and removes it.
func (r *run) checkpoint(ctx context.Context) (memory, string, error) {
	id, err := r.start(ctx, r.home, r.home.image)
	if err != nil {
		return memory{}, "", err
	}
	before, err := r.seen(ctx, id)
	if err != nil {
		return memory{}, "", fmt.Errorf("looking at the process: %w", err)
	}
	if err := r.Fence.Freeze(ctx, id); err != nil {
		return memory{}, "", err
	}
	archive := filepath.Join(r.Dir, archiveName)
	_, err = r.Runtime.CheckpointContainer(ctx, &runtimeapi.CheckpointContainerRequest{
		ContainerId: id, Location: archive, Timeout: int64(longest / time.Second),
	})
	if err != nil {
		return memory{}, "", dump.Explain(fmt.Errorf("checkpointing a container: %w", err), r.StateDir, id)
	}
	if r.criuVersion, err = versionIn(archive); err != nil {
		return memory{}, "", err
	}
	return before, archive, r.remove(ctx, id)
}

// load makes an image of the archive, as an export does, and puts it into the runtime's store.
func (r *run) load(ctx context.Context, archive string) error {
	config, err := r.Store.ImageConfig(ctx, r.home.agent)
	if err != nil {
		return err
	}
	snapshotter, err := r.Store.Snapshotter(ctx, r.home.agent)
	if err != nil {
		return err
	}
	origin, err := r.origin(ctx)
	if err != nil {
		return err
	}
	img, done, err := pack(ctx, archive, config, origin)
	if err != nil {
		return err
	}
	defer done()
	if err := r.Store.Load(ctx, imageName, img, snapshotter); err != nil {
		return err
	}
	// The CRI hears of a new image by an event.
	return poll(ctx, r.patience(), func() error {
		status, err := r.Images.ImageStatus(ctx, &runtimeapi.ImageStatusRequest{Image: &runtimeapi.ImageSpec{Image: imageName}})
		if err == nil && status.GetImage() == nil {
			err = fmt.Errorf("image %q: the runtime does not know it", imageName)
		}
		return err
	})
}

// origin is what an export would say of the test's container, which is made from the agent's own image.
func (r *run) origin(ctx context.Context) (image.Origin, error) {
	answer, err := r.Runtime.ContainerStatus(ctx, &runtimeapi.ContainerStatusRequest{ContainerId: r.home.agent})
	if err != nil {
		return image.Origin{}, fmt.Errorf("reading the agent's own image: %w", err)
	}
	status := answer.GetStatus()
	return image.Origin{
		Namespace: r.Self.Namespace, Pod: r.Self.Pod, PodUID: r.Self.PodUID,
		Image: status.GetImage().GetImage(), ImageRef: status.GetImageRef(), CheckpointedAt: time.Now(),
		Annotations: map[string]string{"io.kubernetes.container.hash": "0", "io.kubernetes.container.restartCount": "0"},
	}, nil
}

// seen returns the process's memory once it was seen to count on.
func (r *run) seen(ctx context.Context, id string) (memory, error) {
	var first *memory
	var now memory
	err := poll(ctx, r.patience(), func() error {
		answer, err := r.Runtime.ExecSync(ctx, &runtimeapi.ExecSyncRequest{
			ContainerId: id, Cmd: []string{r.Executable, ReadCommand}, Timeout: int64(defaultPatience / time.Second),
		})
		if err != nil {
			return err
		}
		if answer.GetExitCode() != 0 {
			return fmt.Errorf("reading the process's state: %s", answer.GetStderr())
		}
		if now, err = parseMemory(string(answer.GetStdout())); err != nil {
			return err
		}
		if first == nil {
			first = new(now)
		}
		if now.nonce != first.nonce || now.count <= first.count {
			return errors.New("the process does not go on")
		}
		return nil
	})
	return now, err
}

func (r *run) patience() time.Duration {
	if r.Patience > 0 {
		return r.Patience
	}
	return defaultPatience
}

// clean removes the test's containers, image and files, also those of a former life.
func (r *run) clean(ctx context.Context) error {
	var errs []error
	if r.home != nil {
		errs = append(errs, r.sweep(ctx, r.home))
	}
	errs = append(errs, r.Store.Unload(ctx, imageName))
	if err := os.Remove(filepath.Join(r.Dir, archiveName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, fmt.Errorf("removing the self-test's archive: %w", err))
	}
	return errors.Join(errs...)
}

// poll tries until it succeeds, at most for a while; then it returns the last failure.
func poll(ctx context.Context, within time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pollEvery):
		}
	}
}
