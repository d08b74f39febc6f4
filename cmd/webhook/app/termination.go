// SPDX-License-Identifier: Apache-2.0

package app

import (
	"slices"

	"github.com/spf13/pflag"

	"github.com/cryopod/cryopod/pkg/termination"
)

// taintsValue is a flag that changes the list of termination taints.
type taintsValue struct {
	list *termination.List
	text string
}

// Set implements pflag.Value.
func (v *taintsValue) Set(text string) error {
	list, err := termination.Parse(text)
	if err != nil {
		return err
	}
	*v.list, v.text = list, text
	return nil
}

// String implements pflag.Value.
func (v *taintsValue) String() string { return v.text }

// Type implements pflag.Value.
func (v *taintsValue) Type() string { return "taints" }

func (o *Options) addTermination(flags *pflag.FlagSet) {
	o.Taints = termination.Defaults()
	flags.Var(&taintsValue{list: &o.Taints}, "termination-taints",
		"changes to the list of taints that announce a node's end, separated by commas: KEY=NOTICE adds or replaces one, with the time that is "+
			"left from the taint on, like example.com/going=60s; KEY=NOTICE:voluntary one of a node that stays until its pods have gone, so that "+
			"PodDisruptionBudgets are respected; -KEY leaves one out. To have an added taint noticed at once, add it to the match condition of the "+
			"webhook nodes.checkpoint.io as well")
	flags.BoolVar(&o.OnCordon, "on-cordon", false,
		"take a cordoned node for one that is about to be drained: save its opted-in pods and evict them. "+
			"The component manifests/components/cordon sets it, and the webhook that notices a cordon at once")
}

// taints are the taints that announce a node's end, a cordon included where it counts.
func (o *Options) taints() termination.List {
	if !o.OnCordon {
		return o.Taints
	}
	if _, known := o.Taints.Find(termination.Cordon().Key); known {
		return o.Taints
	}
	return append(slices.Clip(o.Taints), termination.Cordon())
}
