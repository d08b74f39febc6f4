// SPDX-License-Identifier: Apache-2.0

// Package app is the agent's command: its flags, and how its parts are put together.
package app

import (
	"fmt"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2/textlogger"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/cryopod/cryopod/pkg/agent/selftest"
)

// NewCommand returns the agent's command.
func NewCommand() *cobra.Command {
	o := DefaultOptions()
	cmd := &cobra.Command{
		Use:   "agent --registry=REGISTRY/PATH",
		Short: "Saves the pods of its node, and tells the cluster what the node can do",
		Long: `The agent runs on every node. It watches the PodCheckpoints of its node; for each one it freezes the pod's containers,
has the kubelet checkpoint them, pushes the checkpoints to a registry, and keeps the pod frozen until it is deleted.

At its start, and whenever the container runtime changed, it checkpoints and restores a process of its own. What it
finds stands in the NodeProfile of its node:

  kubectl get nodeprofiles -o wide

It needs the sockets and directories of its node; see the DaemonSet in manifests/agent for which and why.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.Validate(); err != nil {
				return err
			}
			ctrl.SetLogger(textlogger.NewLogger(textlogger.NewConfig(textlogger.Verbosity(o.Verbosity))))
			return Run(cmd.Context(), o)
		},
	}
	o.AddFlags(cmd.Flags())
	cmd.Flags().SortFlags = false
	cmd.CompletionOptions.DisableDefaultCmd = true
	cmd.AddCommand(
		&cobra.Command{
			Use: selftest.ProcessCommand, Hidden: true, Args: cobra.NoArgs, Short: "The process that the self-test checkpoints",
			RunE: func(cmd *cobra.Command, _ []string) error { return selftest.Process(cmd.Context()) },
		},
		&cobra.Command{
			Use: selftest.ReadCommand, Hidden: true, Args: cobra.NoArgs, Short: "Prints what the self-test's process wrote",
			RunE: func(cmd *cobra.Command, _ []string) error {
				state, err := selftest.Read()
				if err != nil {
					return err
				}
				_, err = fmt.Fprintln(cmd.OutOrStdout(), state)
				return err
			},
		},
	)
	return cmd
}
