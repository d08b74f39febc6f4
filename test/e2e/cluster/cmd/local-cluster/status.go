// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/cryopod/cryopod/test/e2e/cluster"
)

// statusTimeout bounds the questions to a machine that may be frozen.
const statusTimeout = 3 * time.Second

// table prints a line for each machine of the cluster.
func table(ctx context.Context, out io.Writer, c *cluster.Cluster) error {
	machines, err := c.Status(ctx, statusTimeout)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "Cluster %s, containerd %s, up since %s\n\n", c.Name(), c.ContainerdVersion(), c.Started().Format(time.DateTime))
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "MACHINE\tSTATE\tKUBELET\tRUNTIME\tADDRESS\tPODS\tPROGRAMS")
	for _, m := range machines {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Name, m.State, m.Kubelet, m.Runtime, m.Address, m.Pods, strings.Join(m.Programs, " "))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	fmt.Fprintln(out)
	return nil
}
