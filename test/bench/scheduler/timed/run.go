// SPDX-License-Identifier: Apache-2.0

package timed

import (
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // as cmd/scheduler
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/cryopod/cryopod/pkg/locality"
)

// Argument is the first one of a program that calls Asked and is to be the scheduler.
const Argument = "timed-scheduler"

// Asked tells whether a program with these arguments is to be the scheduler.
func Asked(args []string) bool { return len(args) > 1 && args[1] == Argument }

// Run is the scheduler's main function, with kube-scheduler's flags. It returns the exit code. With a configuration that names neither plugin it is
// kube-scheduler.
func Run(args []string) int {
	register()
	command := app.NewSchedulerCommand(app.WithPlugin(locality.Name, newLocality), app.WithPlugin(ImageLocality, newImages))
	command.SetArgs(args)
	return cli.Run(command)
}
