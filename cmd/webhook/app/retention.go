// SPDX-License-Identifier: Apache-2.0

package app

import (
	"regexp"

	"github.com/spf13/pflag"

	"github.com/cryopod/cryopod/pkg/checkpoint/retention"
)

// registryPrefix matches where images go, as the agents' flag: a host, maybe a port, and a path of lower-case names.
var registryPrefix = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$`)

// bytesValue is a flag whose value is a quantity.
type bytesValue struct {
	bytes *int64
	text  string
}

// Set implements pflag.Value.
func (v *bytesValue) Set(text string) error {
	bytes, err := retention.ParseBytes(text)
	if err != nil {
		return err
	}
	*v.bytes, v.text = bytes, text
	return nil
}

// String implements pflag.Value.
func (v *bytesValue) String() string { return v.text }

// Type implements pflag.Value.
func (v *bytesValue) Type() string { return "quantity" }

func addRetention(flags *pflag.FlagSet, o *retention.Options) {
	flags.IntVar(&o.Policy.Count, "retention-count", retention.DefaultCount,
		"how many PodCheckpoints that are over are kept for each owner, the youngest; 0 for no bound. "+
			"A namespace's annotation checkpoint.io/retention-count overrides it")
	flags.DurationVar(&o.Policy.Age, "retention-age", retention.DefaultAge,
		"how long a PodCheckpoint that is over is kept for people to read. A namespace's annotation checkpoint.io/retention-age overrides it")
	flags.Var(&bytesValue{&o.Policy.Bytes, "0"}, "retention-bytes",
		"how large the images of a namespace may be together before those of checkpoints that are over are deleted, the oldest first, like 20Gi; "+
			"0 for no bound. A namespace's annotation checkpoint.io/retention-bytes overrides it")
	flags.BoolVar(&o.Policy.KeepImages, "retention-keep-images", false,
		"keep the images of checkpoints that are over for as long as their PodCheckpoints, for people to analyze; "+
			"without it they are deleted as soon as nobody can need them")
	flags.DurationVar(&o.SweepEvery, "retention-sweep", retention.DefaultSweepEvery,
		"how often the registry is searched for images that no PodCheckpoint names")
	flags.StringVar(&o.Registry, "registry", o.Registry,
		"where the agents push checkpoint images: registry.example.com/path; also by the environment's CRYOPOD_REGISTRY. "+
			"Without it, only the agents delete images")
	flags.StringVar(&o.RegistryConfig, "registry-config", "",
		"directory with a Docker config.json that has the registry's credentials, which must allow to delete; empty: none. It is read again for each use")
	flags.BoolVar(&o.RegistryInsecure, "registry-insecure", false,
		"allow plain HTTP to the registry; always allowed for localhost, private addresses and names below .local")
}

func validateRetention(wrong func(flag, format string, args ...any), o *retention.Options) {
	if o.Policy.Count < 0 {
		wrong("retention-count", "%d is negative; 0 is no bound", o.Policy.Count)
	}
	if o.Policy.Age <= 0 {
		wrong("retention-age", "%s is not positive", o.Policy.Age)
	}
	if o.SweepEvery <= 0 {
		wrong("retention-sweep", "%s is not positive", o.SweepEvery)
	}
	if o.Registry != "" && !registryPrefix.MatchString(o.Registry) {
		wrong("registry", "must be a registry with a path, like registry.example.com/checkpoints, not %q", o.Registry)
	}
}
