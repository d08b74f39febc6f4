// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/cryopod/cryopod/test/e2e/install"
)

// diagnoseTimeout bounds the gathering: what went wrong may keep the API server from answering.
const diagnoseTimeout = 30 * time.Second

// Diagnose writes down what helps to see why something failed in a namespace.
func (b *Bed) Diagnose(ctx context.Context, w io.Writer, namespace string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diagnoseTimeout)
	defer cancel()
	questions := []string{
		"get nodes,nodeprofiles,pods -A -o wide",
		"get podcheckpoints -n " + namespace + " -o yaml",
		"describe pods -n " + namespace,
		"get events -n " + namespace + " --sort-by=.metadata.creationTimestamp",
	}
	for _, part := range []string{"agent", "webhook", "scheduler"} {
		questions = append(questions, "logs -n "+install.Namespace+" -l app.kubernetes.io/name=cryopod-"+part+" --tail=50 --prefix --ignore-errors")
	}
	for _, q := range questions {
		out, err := b.Kubectl.Run(ctx, strings.Fields(q)...)
		fmt.Fprintf(w, "\n===== kubectl %s\n%s", q, out)
		if err != nil {
			fmt.Fprintf(w, "(%v)\n", err)
		}
	}
	for _, n := range b.Cluster.Nodes() {
		for _, component := range []string{"kubelet", "containerd"} {
			fmt.Fprintf(w, "\n===== %s of %s\n%s\n", component, n.Name(), n.LogTail(component, 40))
		}
	}
}
