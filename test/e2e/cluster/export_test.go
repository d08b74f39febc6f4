// SPDX-License-Identifier: Apache-2.0

package cluster

// ContainerdConfig is the configuration of a containerd version, for tests.
var ContainerdConfig = containerdConfig

// ValidateOptions checks options as Up does, for tests.
func ValidateOptions(o Options) error { return o.withDefaults().validate() }

// FeatureGateFlag is the value of the flag of Kubernetes programs, for tests.
func FeatureGateFlag(o Options) string { return o.featureGates() }

// Hold takes a cluster's lock, and forget removes its file under it, for tests.
func Hold(base, name string) (release, forget func(), held bool, err error) {
	l := layout{base: base, dir: base + "/" + name}
	f, err := l.tryHold()
	if f == nil || err != nil {
		return nil, nil, false, err
	}
	return func() { _ = f.Close() }, func() { _ = l.forget() }, true, nil
}
