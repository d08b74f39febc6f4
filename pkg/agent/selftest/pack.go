// SPDX-License-Identifier: Apache-2.0

package selftest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/cryopod/cryopod/pkg/archive"
	"github.com/cryopod/cryopod/pkg/image"
)

// pack makes the image that an export of the archive would make, by pushing it to a registry in this process's memory. done must be
// called when the image was used.
func pack(ctx context.Context, path string, baseConfig []byte, origin image.Origin) (_ v1.Image, done func(), err error) {
	base, err := image.ParseBaseConfig(baseConfig)
	if err != nil {
		return nil, nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, fmt.Errorf("serving the self-test's image: %w", err)
	}
	server := &http.Server{
		Handler:           registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		ReadHeaderTimeout: 10 * time.Second,
	}
	go func() { _ = server.Serve(listener) }()
	done = func() { _ = server.Close() }
	defer func() {
		if err != nil {
			done()
		}
	}()
	direct := &http.Transport{}
	tag := listener.Addr().String() + "/selftest:checkpoint"
	pusher := &image.Pusher{Transport: direct}
	_, err = pusher.Push(ctx, image.Request{
		Archive: func() (io.ReadCloser, error) { return os.Open(path) }, Container: containerName, Tag: tag, Base: base, Origin: origin,
	})
	if err != nil {
		return nil, nil, err
	}
	ref, err := name.NewTag(tag, name.Insecure)
	if err != nil {
		return nil, nil, fmt.Errorf("naming the self-test's image: %w", err)
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithTransport(direct))
	if err != nil {
		return nil, nil, fmt.Errorf("reading the self-test's image: %w", err)
	}
	return img, done, nil
}

// criuVersion matches the line of a CRIU log that tells its version: "(00.000000) Version: 4.2.1 (gitid 0)".
var criuVersion = regexp.MustCompile(`Version: ([0-9][0-9A-Za-z.~+-]{0,31})`)

// dumpLog is CRIU's log in an archive.
const dumpLog = "dump.log"

// versionIn returns the version of the CRIU that made an archive, from the log in it; empty where there is no such log.
func versionIn(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading the self-test's archive: %w", err)
	}
	defer func() { _ = f.Close() }()
	for r := archive.NewReader(f, archive.Limits{}); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return "", nil
		}
		if err != nil {
			return "", fmt.Errorf("reading the self-test's archive: %w", err)
		}
		if e.Name == dumpLog {
			return versionOf(r), nil
		}
	}
}

func versionOf(r io.Reader) string {
	lines := bufio.NewScanner(io.LimitReader(r, 1<<20))
	for lines.Scan() {
		if m := criuVersion.FindStringSubmatch(lines.Text()); m != nil {
			return m[1]
		}
	}
	return ""
}
