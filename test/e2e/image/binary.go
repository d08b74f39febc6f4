// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/progress"
	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/source"
)

// pausePackage is the program of the image Pause.
const pausePackage = "github.com/cryopod/cryopod/test/e2e/image/pause"

// accounts names the users that a program in an image of its own may run as.
const accounts = "root:x:0:0:root:/:/nologin\nnonroot:x:65532:65532:nonroot:/:/nologin\n"

// GoBinary builds the main package pkgPath, an import path or "./path" from the root of the repository, and returns an
// image with nothing but that program, as /name, and a /tmp.
func (b Builder) GoBinary(ctx context.Context, pkgPath, name string) (v1.Image, error) {
	var image v1.Image
	err := progress.New(b.Progress).Step("building image "+name, func() (err error) {
		image, err = goBinary(ctx, pkgPath, name)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("building image %q: %w", name, err)
	}
	return image, nil
}

func goBinary(ctx context.Context, pkgPath, name string) (v1.Image, error) {
	dir, err := os.MkdirTemp("", "cryopod-image-")
	if err != nil {
		return nil, fmt.Errorf("making build directory: %w", err)
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "program")
	if err := goBuild(ctx, pkgPath, program); err != nil {
		return nil, err
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("reading program: %w", err)
	}
	made, err := packMemory(func(archive *tar.Writer) error {
		return writeFiles(archive,
			file{name: "etc/", mode: 0o755},
			file{name: "etc/passwd", mode: 0o644, content: []byte(accounts)},
			file{name: name, mode: 0o755, content: content},
			file{name: "tmp/", mode: 0o1777},
		)
	})
	if err != nil {
		return nil, err
	}
	return assemble(empty.Image, made, name, v1.Config{Entrypoint: []string{"/" + name}, Env: []string{"PATH=/"}})
}

func goBuild(ctx context.Context, pkgPath, program string) error {
	root, err := source.Root()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, source.Go(), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", program, pkgPath)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	if _, err := debian.Run(cmd); err != nil {
		return fmt.Errorf("building %q: %w", pkgPath, err)
	}
	return nil
}
