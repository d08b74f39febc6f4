// SPDX-License-Identifier: Apache-2.0

package imageindex_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cryopod/cryopod/pkg/imageindex"
)

func digest(parts ...any) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(fmt.Sprint(parts...))))
}

// images are so many of so many layers, of which the lowest shared ones are in all.
func images(n, layers, shared int) []imageindex.Image {
	var all []imageindex.Image
	for i := range n {
		image := imageindex.Image{Digest: digest("image", i), Names: []string{fmt.Sprintf("registry.test/team/app-%d:v1", i)}}
		for l := range layers {
			owner := i
			if l < shared {
				owner = -1
			}
			image.Layers = append(image.Layers, imageindex.Layer{Digest: digest("layer", owner, l), Bytes: int64(l+1) * 7_654_321})
		}
		all = append(all, image)
	}
	return all
}

func TestPackedIsUnpacked(t *testing.T) {
	all := images(20, 10, 3)
	x, err := imageindex.Unpack(imageindex.Pack(all))
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Images) != 20 || len(x.Layers) != 3+20*7 || len(x.Names) != 20 {
		t.Errorf("%s, %d names, want 20 images of 143 layers, 20 names", x, len(x.Names))
	}
	for _, i := range all {
		id, _ := imageindex.ImageOf(i.Digest)
		if got := x.Names[imageindex.NameOf(i.Names[0])]; got != id {
			t.Errorf("%s leads to %x, want %x", i.Names[0], got, id)
		}
		var want []imageindex.LayerID
		var bytes int64
		for _, l := range i.Layers {
			id, _ := imageindex.LayerOf(l.Digest)
			want = append(want, id)
			bytes += l.Bytes
			if got := x.Layers[id].Bytes(); math.Abs(float64(got-l.Bytes)) > 0.05*float64(l.Bytes) {
				t.Errorf("a layer of %d bytes has %d", l.Bytes, got)
			}
		}
		if diff := cmp.Diff(want, x.Images[id].Layers); diff != "" {
			t.Errorf("layers of %s (-want +got):\n%s", i.Digest, diff)
		}
		if got := x.Images[id].Bytes; math.Abs(float64(got-bytes)) > 0.05*float64(bytes) {
			t.Errorf("an image of %d bytes has %d", bytes, got)
		}
	}
}

// TestSize is what the object of each node may take: base64, as JSON has it, included.
func TestSize(t *testing.T) {
	for name, tc := range map[string]struct{ shared, most int }{"nothing is shared": {0, 16 << 10}, "half is shared": {5, 10 << 10}} {
		size := base64.StdEncoding.EncodedLen(len(imageindex.Pack(images(200, 10, tc.shared))))
		t.Logf("200 images of 10 layers, %s: %d bytes", name, size)
		if size > tc.most {
			t.Errorf("200 images of 10 layers, %s: %d bytes, want at most %d", name, size, tc.most)
		}
	}
}

func TestSameImagesSameBytes(t *testing.T) {
	all := images(30, 4, 1)
	want := imageindex.Pack(all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	if got := imageindex.Pack(append(all, all[0])); string(got) != string(want) {
		t.Error("another order gives other bytes")
	}
}

func TestMissing(t *testing.T) {
	here, err := imageindex.Unpack(imageindex.Pack(images(1, 10, 3)))
	if err != nil {
		t.Fatal(err)
	}
	other := images(2, 10, 3)[1]
	there, err := imageindex.Unpack(imageindex.Pack([]imageindex.Image{other}))
	if err != nil {
		t.Fatal(err)
	}
	id, _ := imageindex.ImageOf(other.Digest)
	size := func(l imageindex.LayerID) int64 { return there.Layers[l].Bytes() }
	var want int64
	for _, l := range other.Layers[3:] {
		id, _ := imageindex.LayerOf(l.Digest)
		want += there.Layers[id].Bytes()
	}
	if got := here.Missing(there.Images[id].Layers, size); got != want {
		t.Errorf("%d bytes are missing, want %d: all but the three shared layers", got, want)
	}
	if got := there.Missing(there.Images[id].Layers, size); got != 0 {
		t.Errorf("%d bytes are missing where the image is, want none", got)
	}
}

func TestWhatIsNoDigestIsLeftOut(t *testing.T) {
	odd := []imageindex.Image{
		{Digest: "registry.test/app:1"}, {Digest: "sha256:12"}, {Digest: "sha512:" + digest("x")[7:]},
		{Digest: digest("image"), Layers: []imageindex.Layer{{Digest: "?", Bytes: 5}, {Digest: digest("a"), Bytes: -5}, {Digest: digest("a"), Bytes: 1 << 62}}},
	}
	x, err := imageindex.Unpack(imageindex.Pack(odd))
	if err != nil {
		t.Fatal(err)
	}
	if len(x.Images) != 1 || len(x.Layers) != 1 {
		t.Errorf("%s, want 1 image of 1 layer", x)
	}
}

func TestMalformed(t *testing.T) {
	good := imageindex.Pack(images(3, 3, 1))
	bad := map[string][]byte{
		"nothing": nil, "another version": append([]byte{2}, good[1:]...), "more than there is": append(good[:len(good):len(good)], 0),
		"a layer that is not there": {1, 0, 1, 1, 2, 3, 4, 5, 0, 1, 0, 1}, "very many layers": {1, 0xff, 0xff, 0xff, 0xff, 0x0f},
	}
	for n := range good {
		bad[fmt.Sprintf("cut off after %d", n)] = good[:n]
	}
	for name, packed := range bad {
		if x, err := imageindex.Unpack(packed); !errors.Is(err, imageindex.ErrMalformed) {
			t.Errorf("%s: got %v, %v, want %v", name, x, err, imageindex.ErrMalformed)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(imageindex.Pack(nil))
	f.Add(imageindex.Pack(images(3, 3, 1)))
	f.Add(imageindex.Pack(images(40, 10, 5)))
	f.Fuzz(func(t *testing.T, packed []byte) {
		x, err := imageindex.Unpack(packed)
		if err != nil {
			if !errors.Is(err, imageindex.ErrMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		references := 0
		for _, e := range x.Images {
			references += len(e.Layers)
			for _, l := range e.Layers {
				if _, ok := x.Layers[l]; !ok {
					t.Errorf("an image has a layer %x that is not there", l)
				}
			}
		}
		if references > 127_000 {
			t.Errorf("%d references", references)
		}
	})
}
