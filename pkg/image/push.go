// SPDX-License-Identifier: Apache-2.0

// Package image makes OCI images of checkpoint archives and keeps them in a registry. An archive becomes an image in one pass:
// it is read once, checked, compressed on all cores, hashed and sent, in a memory that does not depend on its size.
package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/cryopod/cryopod/pkg/archive"
)

// Pusher pushes checkpoint images to a registry, lists and deletes them there. The zero value is ready to use. Its methods may be called
// concurrently; each running Push uses up to Workers cores and some 20 MiB for each worker.
type Pusher struct {
	// Keychain has the registry's credentials; nil means none. See DockerConfig.
	Keychain authn.Keychain
	// Transport carries the requests; nil means DefaultTransport.
	Transport http.RoundTripper
	// Workers is the number of cores that compress; 0 means all (GOMAXPROCS).
	Workers int
	// Insecure allows plain HTTP where the registry does not speak TLS. It is always allowed for localhost, private (RFC 1918)
	// addresses and names below .local.
	Insecure bool
	// Attempts is how often a push is tried when the registry is out of order or the network breaks; 0 means 3. Each attempt
	// reads the archive anew.
	Attempts int
	// Backoff is the pause before the second attempt, doubled for each later one; 0 means 500 ms.
	Backoff time.Duration
	// Limits bound the archive; zero fields mean archive.DefaultLimits.
	Limits archive.Limits
	// Lists bound what is read of lists; zero fields mean DefaultListLimits.
	Lists ListLimits
}

// Request is an archive to be pushed.
type Request struct {
	// Archive opens the checkpoint archive, an uncompressed tar; it is called once for each attempt. Closing what it returns must
	// end a Read that is under way.
	Archive func() (io.ReadCloser, error)
	// Container is the container's name; the annotations by which runtimes know a checkpoint image carry it.
	Container string
	// Tag is where the image goes: registry/repository:tag.
	Tag string
	// Base is what the image keeps of the container's own image.
	Base BaseConfig
	// Origin is what else the image tells; empty fields are left out.
	Origin Origin
}

// Result is a pushed image.
type Result struct {
	// Digest is the image by digest: registry/repository@sha256:….
	Digest string
	// ArchiveBytes is the size of the archive's files, PushedBytes that of layer, configuration and manifest.
	ArchiveBytes, PushedBytes int64
	// Duration is how long it took, all attempts together.
	Duration time.Duration
	// Metadata is what the archive tells about itself.
	Metadata *archive.Metadata
}

// DefaultTransport carries a Pusher's requests unless it has a transport of its own. It honours the proxy variables of the environment.
var DefaultTransport http.RoundTripper = newTransport()

func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          16,
		MaxIdleConnsPerHost:   8,
		IdleConnTimeout:       30 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		WriteBufferSize:       256 << 10,
	}
}

// Push makes an image of the archive and pushes it under the tag. It fails with an error of package archive where the archive is
// refused. When ctx ends, it stops at once. However it returns, every reader that it opened is closed and none of its goroutines
// is left.
func (p *Pusher) Push(ctx context.Context, r Request) (Result, error) {
	start := time.Now()
	tag, err := name.NewTag(r.Tag, append(p.nameOptions(r.Tag), name.StrictValidation)...)
	if err != nil {
		return Result{}, fmt.Errorf("parsing image tag %q: %w", r.Tag, err)
	}
	attempts, pause := max(p.Attempts, 0), p.Backoff
	if attempts == 0 {
		attempts = 3
	}
	if pause == 0 {
		pause = 500 * time.Millisecond
	}
	for attempt := 1; ; attempt++ {
		result, err := p.pushOnce(ctx, tag, r)
		if err == nil {
			result.Duration = time.Since(start)
			return result, nil
		}
		if ctx.Err() == nil && attempt < attempts && passing(err) && wait(ctx, pause) == nil {
			pause *= 2
			continue
		}
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return Result{}, fmt.Errorf("pushing checkpoint image %q: %w", r.Tag, err)
	}
}

func (p *Pusher) pushOnce(ctx context.Context, tag name.Tag, r Request) (Result, error) {
	layer := newLayer(r, p.Limits, p.workers())
	defer layer.stop()
	defer stopWith(ctx, layer)()
	img := &checkpointImage{layer: layer, request: r}
	if err := remote.Write(tag, img, p.remoteOptions(ctx)...); err != nil {
		// What went wrong on this side explains what the transport saw of it.
		if cause := layer.failure(); cause != nil {
			return Result{}, cause
		}
		return Result{}, explain(err)
	}
	digest, err := img.Digest()
	if err != nil {
		return Result{}, err
	}
	pushed, err := img.pushedBytes()
	if err != nil {
		return Result{}, err
	}
	m := layer.metadata()
	return Result{
		Digest:       tag.Digest(digest.String()).Name(),
		ArchiveBytes: m.Bytes,
		PushedBytes:  pushed,
		Metadata:     m,
	}, nil
}

// stopWith stops the layer as soon as ctx ends: the transport alone would wait for an archive that blocks. The function that it
// returns ends the watch.
func stopWith(ctx context.Context, l *layer) (end func()) {
	stopped := make(chan struct{})
	unwatch := context.AfterFunc(ctx, func() {
		defer close(stopped)
		l.stop()
	})
	return func() {
		if !unwatch() {
			<-stopped
		}
	}
}

func (p *Pusher) workers() int {
	if p.Workers > 0 {
		return p.Workers
	}
	return runtime.GOMAXPROCS(0)
}

func (p *Pusher) nameOptions(ref string) []name.Option {
	host, _, _ := strings.Cut(ref, "/")
	host, _, _ = strings.Cut(host, ":")
	if p.Insecure || strings.HasSuffix(host, ".local") {
		return []name.Option{name.Insecure}
	}
	return nil
}

func (p *Pusher) remoteOptions(ctx context.Context) []remote.Option {
	t := p.Transport
	if t == nil {
		t = DefaultTransport
	}
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(straight{t}),
		remote.WithUserAgent("cryopod"),
		// Push counts the attempts itself: only it can read the archive again.
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
	}
	if p.Keychain != nil {
		options = append(options, remote.WithAuthFromKeychain(p.Keychain))
	}
	return options
}

// passing tells whether an error of the registry or the network may be gone at the next attempt.
func passing(err error) bool {
	if refused := (*archiveError)(nil); errors.As(err, &refused) {
		return false
	}
	if status := (*transport.Error)(nil); errors.As(err, &status) {
		return status.Temporary() || status.StatusCode >= 500 || status.StatusCode == http.StatusTooManyRequests
	}
	if network := net.Error(nil); errors.As(err, &network) {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.ECONNREFUSED)
}

func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
