// SPDX-License-Identifier: Apache-2.0

// Command scheduler is kube-scheduler with the plugin CheckpointLocality. It takes kube-scheduler's flags and configuration.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubernetes/cmd/kube-scheduler/app"

	"github.com/cryopod/cryopod/pkg/locality"
)

func main() {
	command := app.NewSchedulerCommand(app.WithPlugin(locality.Name, locality.New))
	os.Exit(cli.Run(command))
}
