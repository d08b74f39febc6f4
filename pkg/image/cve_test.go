// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"

	criu "github.com/checkpoint-restore/checkpointctl/lib"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/runtime-spec/specs-go"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
	"github.com/cryopod/cryopod/pkg/image"
)

// The shapes of the holes that runtimes had where they restored from a checkpoint. Each test makes an image of an archive that would have
// used one, and looks at what a runtime would read in it.

// evil is in each thing that an attacker puts into an archive.
const evil = "evil"

// replaced are the entries of a good checkpoint, with these in the place of those of the same names.
func replaced(entries ...archivetest.Entry) []archivetest.Entry {
	var all []archivetest.Entry
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Header.Name] = true
	}
	for _, e := range archivetest.Checkpoint() {
		if !names[e.Header.Name] {
			all = append(all, e)
		}
	}
	return append(all, entries...)
}

// restored is what a runtime reads of an image.
type restored struct {
	manifest *v1.Manifest
	config   *v1.ConfigFile
	files    map[string]string
}

func restore(t *testing.T, base image.BaseConfig, entries ...archivetest.Entry) restored {
	t.Helper()
	reg := newRegistry(t)
	o := origin
	o.Annotations = map[string]string{"io.kubernetes.container.hash": "0", "io.kubernetes.container.terminationMessagePath": "/dev/termination-log"}
	got, err := (&image.Pusher{}).Push(t.Context(), image.Request{
		Archive: opener(archivetest.Tar(entries...)), Container: "app", Tag: reg.host + "/checkpoints/team-a:web-0.app", Base: base, Origin: o,
	})
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(mustDigest(t, got.Digest))
	if err != nil {
		t.Fatal(err)
	}
	var r restored
	r.manifest, err = img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	if r.config, err = img.ConfigFile(); err != nil {
		t.Fatal(err)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	r.files = map[string]string{}
	for in := tar.NewReader(plain); ; {
		h, err := in.Next()
		if err == io.EOF {
			return r
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(in)
		if err != nil {
			t.Fatal(err)
		}
		r.files[h.Name] = string(content)
	}
}

func mustDigest(t *testing.T, s string) name.Digest {
	t.Helper()
	digest, err := name.NewDigest(s)
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

func (r restored) read(t *testing.T, name string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(r.files[name]), into); err != nil {
		t.Fatalf("reading %q: %v", name, err)
	}
}

// clean makes sure that nothing of the attacker's is in the manifest, in the configuration and in the files that a runtime takes for its own.
func (r restored) clean(t *testing.T) {
	t.Helper()
	manifest, _ := json.Marshal(r.manifest)
	config, _ := json.Marshal(r.config)
	parts := map[string]string{"manifest": string(manifest), "configuration": string(config)}
	for name, content := range r.files {
		if !strings.HasPrefix(name, "checkpoint/") && name != "container.log" && name != "rootfs-diff.tar" {
			parts[name] = content
		}
		if strings.Contains(name, evil) {
			t.Errorf("file %q is in the image", name)
		}
	}
	for name, content := range parts {
		if strings.Contains(content, evil) {
			t.Errorf("%s has what the attacker wrote: %s", name, content)
		}
	}
}

// TestCVE20248676Mounts: CRI-O made the mounts that an archive listed, in bind.mounts and in its specification, unasked by the pod.
func TestCVE20248676Mounts(t *testing.T) {
	r := restore(t, image.BaseConfig{}, replaced(
		archivetest.File("bind.mounts", `[{"source":"/evil","destination":"/host","file_type":"directory"}]`),
		archivetest.File("deleted.files", `["/evil"]`), archivetest.File("network.status", `{"evil":{}}`), archivetest.File("devshm-checkpoint.tar", evil),
		archivetest.File("volumes/evil.tar", evil), archivetest.File("pod.options", evil), archivetest.File("status", evil),
		archivetest.File("spec.dump", `{"ociVersion":"1.2.0","mounts":[{"destination":"/evil","source":"/","options":["rbind","rw"]}],`+
			`"annotations":{"io.kubernetes.cri-o.Volumes":"[{\"host_path\":\"/evil\"}]","io.kubernetes.cri.sandbox-id":"evil"}}`),
	)...)
	r.clean(t)
	for _, name := range []string{"bind.mounts", "deleted.files", "network.status", "devshm-checkpoint.tar", "pod.options", "status"} {
		if _, there := r.files[name]; there {
			t.Errorf("%q is in the image", name)
		}
	}
	var spec specs.Spec
	r.read(t, criu.SpecDumpFile, &spec)
	if len(spec.Mounts) > 0 || spec.Linux != nil || spec.Process != nil || spec.Root != nil || spec.Hooks != nil {
		t.Errorf("specification %s", r.files[criu.SpecDumpFile])
	}
}

// TestCVE202650195ImageNames: containerd pulled the image that an archive named, and gave it the name that the archive wanted.
func TestCVE202650195ImageNames(t *testing.T) {
	r := restore(t, image.BaseConfig{}, replaced(
		archivetest.File("config.dump", `{"id":"c1","name":"evil","rootfsImage":"evil","rootfsImageRef":"evil.example/x@sha256:aa",`+
			`"rootfsImageName":"registry.example/evil:1","runtime":"evil","checkpointedTime":"2999-03-04T05:06:07Z"}`),
		archivetest.File("status.dump", `{"id":"c1","image":{"image":"evil","user_specified_image":"evil"},"image_ref":"evil","image_id":"evil"}`),
	)...)
	r.clean(t)
	var config criu.ContainerConfig
	r.read(t, criu.ConfigDumpFile, &config)
	want := criu.ContainerConfig{
		ID: "c1", Name: "app", RootfsImage: "web:1", RootfsImageName: "web:1", RootfsImageRef: "web@sha256:aa", CheckpointedAt: archivetest.Time,
	}
	if diff := cmp.Diff(want, config); diff != "" {
		t.Errorf("config.dump (-want +got):\n%s", diff)
	}
	var status runtimeapi.ContainerStatus
	r.read(t, criu.StatusDumpFile, &status)
	if i := status.GetImage(); i.GetImage() != "web:1" || i.GetUserSpecifiedImage() != "web:1" || status.GetImageRef() != "web@sha256:aa" {
		t.Errorf("status.dump %s", r.files[criu.StatusDumpFile])
	}
	if got := r.manifest.Annotations["org.opencontainers.image.created"]; got != "2026-03-04T05:06:07Z" {
		t.Errorf("created %q: an archive could outlive its retention", got)
	}
}

// TestCVE202653489LinkedLog: containerd copied the file that container.log linked to into the container's log, for "kubectl logs" to show.
func TestCVE202653489LinkedLog(t *testing.T) {
	for kind, e := range map[string]archivetest.Entry{
		"symbolic": {Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "container.log", Linkname: "/etc/shadow"}},
		"hard":     {Header: tar.Header{Typeflag: tar.TypeLink, Name: "container.log", Linkname: "/etc/shadow"}},
		"pipe":     {Header: tar.Header{Typeflag: tar.TypeFifo, Name: "container.log"}},
		"above it": {Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "checkpoint", Linkname: "/etc"}},
		"status":   {Header: tar.Header{Typeflag: tar.TypeSymlink, Name: "status", Linkname: "/etc/shadow"}},
	} {
		t.Run(kind, func(t *testing.T) {
			reg := newRegistry(t)
			_, err := (&image.Pusher{}).Push(t.Context(), image.Request{
				Archive: opener(archivetest.Tar(replaced(e)...)), Container: "app", Tag: reg.host + "/checkpoints/team-a:web-0.app", Origin: origin,
			})
			if !errors.Is(err, archive.ErrType) && !errors.Is(err, archive.ErrConflict) || reg.manifests() != 0 {
				t.Errorf("Push = %v with %d manifests", err, reg.manifests())
			}
			if err != nil && strings.Contains(err.Error(), "shadow") {
				t.Errorf("error %q", err)
			}
		})
	}
}

// TestCVE202653492Annotations: containerd gave a restored container the CDI devices that annotations of its archive asked for. Others
// tell the kubelet which file to read at the container's end, and what to run before it.
func TestCVE202653492Annotations(t *testing.T) {
	r := restore(t, image.BaseConfig{}, replaced(
		archivetest.File("status.dump", `{"id":"c1","metadata":{"name":"evil"},"annotations":{"cdi.k8s.io/evil":"vendor.com/gpu=all","cdi.k8s.io":"evil",`+
			`"io.kubernetes.container.terminationMessagePath":"/evil","io.kubernetes.container.preStopHandler":"{\"exec\":{\"command\":[\"evil\"]}}",`+
			`"io.kubernetes.container.hash":"evil"},"labels":{"io.kubernetes.pod.namespace":"evil","evil":"evil"},"mounts":[{"host_path":"/evil"}]}`),
		archivetest.File("spec.dump", `{"ociVersion":"1.2.0","annotations":{"cdi.k8s.io/evil":"vendor.com/gpu=all"},"process":{"env":["EVIL=evil"]},`+
			`"linux":{"devices":[{"path":"/dev/evil","type":"b","major":8}],"resources":{"devices":[{"allow":true}]}},"hooks":{"prestart":[{"path":"/evil"}]}}`),
	)...)
	r.clean(t)
	var status runtimeapi.ContainerStatus
	r.read(t, criu.StatusDumpFile, &status)
	want := map[string]string{"io.kubernetes.container.hash": "0", "io.kubernetes.container.terminationMessagePath": "/dev/termination-log"}
	if diff := cmp.Diff(want, status.GetAnnotations()); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	labels := map[string]string{
		"io.kubernetes.container.name": "app", "io.kubernetes.pod.name": "web-0", "io.kubernetes.pod.namespace": "team-a", "io.kubernetes.pod.uid": "u1",
	}
	if diff := cmp.Diff(labels, status.GetLabels()); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if len(status.GetMounts()) > 0 || status.GetMetadata().GetName() != "app" {
		t.Errorf("status.dump %s", r.files[criu.StatusDumpFile])
	}
	for key := range r.manifest.Annotations {
		if strings.Contains(key, "cdi") {
			t.Errorf("annotation %q on the image", key)
		}
	}
}

// TestCVE202653488Labels: containerd took labels of an image's configuration for its own, one of which is a command. The configuration of a
// checkpoint's image keeps the user and the platform of its base image, and nothing else.
func TestCVE202653488Labels(t *testing.T) {
	base, err := image.ParseBaseConfig([]byte(`{"os":"linux","architecture":"amd64","config":{"User":"1000","Labels":{"containerd.io/evil":"evil"},` +
		`"Env":["EVIL=evil"],"Entrypoint":["evil"],"Cmd":["evil"],"Volumes":{"/evil":{}},"OnBuild":["evil"],"WorkingDir":"/evil"},"rootfs":{"type":"layers"}}`))
	if err != nil {
		t.Fatal(err)
	}
	r := restore(t, base, archivetest.Checkpoint()...)
	r.clean(t)
	if diff := cmp.Diff(v1.Config{User: "1000"}, r.config.Config); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

// TestArchiveOfAnotherContainer: what is not of the container that was frozen is not pushed under its name.
func TestArchiveOfAnotherContainer(t *testing.T) {
	reg := newRegistry(t)
	raw := archivetest.Tar(replaced(archivetest.File("config.dump", `{"id":"another"}`))...)
	_, err := (&image.Pusher{}).Push(t.Context(), image.Request{
		Archive: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		Tag:     reg.host + "/checkpoints/team-a:web-0.app", Container: "app", Origin: origin,
	})
	if !errors.Is(err, archive.ErrForeign) || reg.manifests() != 0 {
		t.Errorf("Push = %v with %d manifests", err, reg.manifests())
	}
}
