// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"time"
)

// Machine is an empty node with so much room for images, 1 MiB/s to the registry and unpacking in no time.
type Machine struct{ *node }

// Layer is one of an image, in MiB.
type Layer struct {
	Name string
	MiB  int64
}

// NewMachine makes one.
func NewMachine(mebibytes float64) Machine {
	s := slot{shape: shape{name: "test", cpu: 1000, memory: 1 << 30, disk: int64(mebibytes * mib), pull: mib, unpack: 1e18}}
	return Machine{newNode(0, s, 1, time.Unix(0, 0))}
}

// NewImage makes an image.
func NewImage(name string, layers ...Layer) *Image {
	i := &image{name: name, digest: digestOf(name)}
	for _, l := range layers {
		i.layers = append(i.layers, layer{digestOf(l.Name), l.MiB * mib})
		i.bytes += l.MiB * mib
	}
	return i
}

// Image is an image.
type Image = image

// Pull has the machine pull an image. It returns when it is there, and how many MiB came.
func (m Machine) Pull(now time.Duration, i *Image) (time.Duration, int64) {
	ready, bytes := m.pull(now, i)
	return ready, bytes / mib
}

// Use has so many pods more run from an image.
func (m Machine) Use(i *Image, pods int) { m.images[i.digest].pods += pods }

// Collect is what the kubelet does every few minutes. It returns the images that are left, the largest first.
func (m Machine) Collect(now time.Duration) (left []string) {
	m.collect(now)
	for _, s := range m.present(now) {
		left = append(left, s.name)
	}
	return left
}

// MiB is how much is on the machine, compressed.
func (m Machine) MiB() int64 { return m.bytes / mib }
