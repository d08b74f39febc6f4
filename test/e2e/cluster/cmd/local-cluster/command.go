// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

const long = `local-cluster runs a real Kubernetes cluster on this machine, without containers or virtual machines around it:
etcd, API server, controller manager, scheduler, CoreDNS and a registry in one set of namespaces, and every worker
node with its own kubelet, kube-proxy, containerd and CRIU in another. It needs root on Debian, Go, and the first time
some minutes to build what it runs (kept in ~/.cache/cryopod).

The host's network gets no interface: the API server and the registry are reached by ports on 127.0.0.1, so that
several clusters can run side by side. The cluster keeps running when the command has ended.

Push images to the registry at the address that "status" shows, and name them registry.local:5000/… in pods.
/mnt/shared of every node is one directory of the host.

State is kept in /var/lib/cryopod-cluster/NAME, or below $` + cluster.StateVariable + `.`

const example = `  local-cluster up                          # two nodes, named "dev"
  local-cluster up --name ci --nodes 3 --containerd-version 2.4.2
  local-cluster status                      # shows the KUBECONFIG line
  local-cluster exec node-1 -- criu check
  local-cluster logs node-1 kubelet --lines 50
  local-cluster logs control-plane kube-apiserver
  local-cluster down`

func newCommand() *cobra.Command {
	var name string
	root := &cobra.Command{
		Use:           "local-cluster",
		Short:         "Run a real Kubernetes cluster with CRIU on this machine",
		Long:          long,
		Example:       example,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVar(&name, "name", cluster.DefaultName, "the cluster's name; clusters of different names run side by side")
	root.AddCommand(upCommand(&name), downCommand(&name), statusCommand(&name), execCommand(&name), logsCommand(&name))
	return root
}

func upCommand(name *string) *cobra.Command {
	var o cluster.Options
	var progress bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the cluster, or leave a healthy one of the same options as it is",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Name = *name
			if progress {
				o.Progress = cmd.ErrOrStderr()
			}
			began := time.Now()
			c, err := cluster.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "cluster %s is ready (%.0fs)\n\n", c.Name(), time.Since(began).Seconds())
			access(out, c)
			return nil
		},
	}
	cmd.Flags().IntVar(&o.Nodes, "nodes", cluster.DefaultNodes, "number of worker nodes, named node-1, node-2, …")
	cmd.Flags().StringVar(&o.ContainerdVersion, "containerd-version", cluster.DefaultContainerdVersion, "the nodes' containerd")
	cmd.Flags().BoolVar(&progress, "progress", true, "say on standard error what is being done and how long it took")
	return cmd
}

func downCommand(name *string) *cobra.Command {
	var keep bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the cluster and remove all that it left, also after a killed run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			end := cluster.Down
			if keep {
				end = cluster.Stop
			}
			if err := end(cmd.Context(), *name); err != nil {
				return err
			}
			if left, err := cluster.Leftovers(*name); err != nil {
				return err
			} else if len(left) > 0 && !keep {
				return fmt.Errorf("cluster %q is down, but this is left: %q", *name, left)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "cluster %s is gone\n", *name)
			return nil
		},
	}
	cmd.Flags().BoolVar(&keep, "keep", false, "keep the cluster's files, so that its logs can be read; the next up or down removes them")
	return cmd
}

func statusCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the nodes, what runs on them, and how to reach the cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.Attach(cmd.Context(), *name)
			if errors.Is(err, cluster.ErrNotRunning) {
				return fmt.Errorf("cluster %q is not running (start it by: local-cluster up --name %s)", *name, *name)
			}
			if err != nil {
				return err
			}
			if err := table(cmd.Context(), cmd.OutOrStdout(), c); err != nil {
				return err
			}
			access(cmd.OutOrStdout(), c)
			return nil
		},
	}
}

func access(out io.Writer, c *cluster.Cluster) {
	fmt.Fprintf(out, "API server   https://%s\n", c.APIHostAddress())
	fmt.Fprintf(out, "Registry     %s on this machine, %s in the cluster\n", c.RegistryHostAddress(), c.RegistryName())
	fmt.Fprintf(out, "Shared       %s\n", c.SharedDir())
	fmt.Fprintf(out, "kubectl      %s\n\n", c.Kubectl())
	fmt.Fprintf(out, "export KUBECONFIG=%s\n", c.Kubeconfig())
}

func execCommand(name *string) *cobra.Command {
	return &cobra.Command{
		Use:     "exec NODE -- COMMAND [ARGUMENT...]",
		Short:   "Run a program on a node, with the terminal",
		Example: "  local-cluster exec node-1 -- ctr --namespace k8s.io containers list\n  local-cluster exec control-plane -- ss -tlnp",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.Attach(cmd.Context(), *name)
			if err != nil {
				return err
			}
			program, err := c.Command(cmd.Context(), args[0], args[1:]...)
			if err != nil {
				return err
			}
			program.Stdin, program.Stdout, program.Stderr = os.Stdin, os.Stdout, os.Stderr
			foreground(program)
			return program.Run()
		},
	}
}

// foreground leaves the program in our process group, so that it may use the terminal.
func foreground(program *exec.Cmd) {
	program.SysProcAttr = &syscall.SysProcAttr{}
	program.Cancel = func() error { return program.Process.Kill() }
}

func logsCommand(name *string) *cobra.Command {
	var lines int
	cmd := &cobra.Command{
		Use:   "logs NODE COMPONENT",
		Short: "Show the end of a component's log",
		Long: `Show the end of a component's log.

On a node: init, containerd, kubelet, kube-proxy.
On control-plane: init, etcd, kube-apiserver, kube-controller-manager, kube-scheduler, coredns, registry.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			tail, err := cluster.LogTail(*name, args[0], args[1], lines)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), tail)
			return nil
		},
	}
	cmd.Flags().IntVar(&lines, "lines", 100, "how many lines")
	return cmd
}
