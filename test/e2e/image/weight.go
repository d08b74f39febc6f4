// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"compress/gzip"
	"context"
	crand "crypto/rand"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/cryopod/cryopod/test/e2e/cluster/toolchain/debian"
)

// weightFile is the file of the layer that Weigh adds.
const weightFile = "weight"

// Weigh writes a copy of the image at from to a plain HTTP registry under to, with one layer more: so many MiB that don't compress and that no
// other image has.
func Weigh(ctx context.Context, from, to string, mebibytes int) error {
	source, err := name.ParseReference(from, name.Insecure)
	if err != nil {
		return fmt.Errorf("parsing image name %q: %w", from, err)
	}
	img, err := remote.Image(source, remote.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("reading image %q: %w", from, err)
	}
	var seed [32]byte
	// It never fails.
	_, _ = crand.Read(seed[:])
	layer, err := tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return weight(seed, int64(mebibytes)<<20), nil },
		tarball.WithCompressionLevel(gzip.NoCompression),
	)
	if err != nil {
		return fmt.Errorf("making a layer of %d MiB: %w", mebibytes, err)
	}
	if img, err = mutate.AppendLayers(img, layer); err != nil {
		return fmt.Errorf("adding a layer to image %q: %w", from, err)
	}
	return Push(ctx, img, to)
}

// weight is an archive of one file of random bytes, the same for the same seed.
func weight(seed [32]byte, size int64) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		archive := tar.NewWriter(w)
		err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: weightFile, Mode: 0o444, Size: size, ModTime: debian.SourceDate})
		if err == nil {
			_, err = io.CopyN(archive, rand.NewChaCha8(seed), size)
		}
		if err == nil {
			err = archive.Close()
		}
		w.CloseWithError(err)
	}()
	return r
}
