// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

const mib = 1 << 20

// layer is one that a registry has, compressed.
type layer struct {
	digest string
	bytes  int64
}

// image is one version of what an owner's pods run.
type image struct {
	repository string
	name       string // repository:tag
	digest     string
	layers     []layer
	bytes      int64
}

func (i *image) byDigest() string { return i.name + "@" + i.digest }

func digestOf(parts ...any) string {
	return fmt.Sprintf("sha256:%x", sha256.Sum256(fmt.Append(nil, parts...)))
}

// public is an image that owners build on.
type public struct {
	name   string
	weight float64   // how many build on it
	system int       // the operating system below
	mib    []float64 // the layers above that, compressed
}

// runtimes are the public images. Those of the same operating system that begin with the same layers share them, as the official images of languages
// do.
var runtimes = []public{
	{"static", 3, 0, []float64{1}},
	{"python-slim", 4, 1, []float64{3.5, 13, 0.3}},
	{"python", 3, 1, []float64{24, 64, 211, 6, 24}},
	{"node-slim", 4, 1, []float64{4, 41, 1.7}},
	{"node", 3, 1, []float64{24, 64, 211, 3.3, 48}},
	{"ruby", 1, 1, []float64{24, 64, 211, 0.2, 37}},
	{"php", 1, 1, []float64{105, 20, 12, 11}},
	{"nginx", 2, 1, []float64{42}},
	{"jre", 4, 2, []float64{19, 47}},
	{"jdk", 2, 2, []float64{19, 145}},
	{"dotnet", 2, 3, []float64{18, 33, 10}},
	{"enterprise", 2, 4, []float64{15, 60}},
	{"cuda", 1, 2, []float64{5, 60, 900, 450}},
}

// systems are the compressed sizes of the operating systems' layers in MiB.
var systems = []float64{4, 28, 29, 31, 75}

const teams = 12

// recipe is what an image is built from; a rollout builds it anew with some of it changed.
type recipe struct {
	app, runtime, team           int
	patch, dependencies, version int // counted up where they change
	dependencyBytes, codeBytes   int64
}

// lognormal draws bytes around a median, with a bound; both are in MiB.
func lognormal(r *rand.Rand, median, sigma, most float64) int64 {
	return int64(min(most, median*math.Exp(sigma*r.NormFloat64())) * mib)
}

func newRecipe(r *rand.Rand, app int) recipe {
	c := recipe{app: app, runtime: drawRuntime(r), team: r.IntN(teams)}
	c.redraw(r, true)
	return c
}

// redraw draws the sizes of what every rollout changes, and where told those of the dependencies.
func (c *recipe) redraw(r *rand.Rand, dependencies bool) {
	if dependencies {
		c.dependencyBytes = lognormal(r, 60, 1, 800)
	}
	c.codeBytes = lognormal(r, 10, 1, 150)
}

func drawRuntime(r *rand.Rand) int {
	var total float64
	for _, kind := range runtimes {
		total += kind.weight
	}
	at := r.Float64() * total
	return max(0, slices.IndexFunc(runtimes, func(kind public) bool {
		at -= kind.weight
		return at < 0
	}))
}

// next is the recipe of a rollout. Each changes the owner's code; a quarter changes its dependencies too, and one in twenty the public image below.
func (c recipe) next(r *rand.Rand) recipe {
	c.version++
	patched, dependencies := r.Float64() < 0.05, r.Float64() < 0.25
	if patched {
		c.patch++
	}
	if dependencies || patched {
		c.dependencies++
	}
	c.redraw(r, dependencies)
	return c
}

// build makes the image. A layer's digest tells all that is below it, so that a change of one changes those above.
func (c recipe) build() *image {
	kind := runtimes[c.runtime]
	i := &image{repository: fmt.Sprintf("registry.test/team-%d/app-%d", c.team, c.app)}
	i.name = fmt.Sprintf("%s:v%d", i.repository, c.version)
	below := ""
	add := func(bytes int64, parts ...any) {
		below = digestOf(below, parts)
		i.layers = append(i.layers, layer{below, bytes})
		i.bytes += bytes
	}
	add(int64(systems[kind.system]*mib), "system", kind.system, c.patch)
	for _, size := range kind.mib {
		add(int64(size*mib), "runtime", size)
	}
	add(int64(5+3*c.team)*mib, "team", c.team)
	add(c.dependencyBytes, "dependencies", c.app, c.dependencies)
	add(64<<10, "user", c.app)
	add(c.codeBytes, "code", c.app, c.version)
	add(16<<10, "settings", c.app, c.version)
	i.digest = digestOf("image", below)
	return i
}
