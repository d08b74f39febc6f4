// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"

	"github.com/cryopod/cryopod/cmd/agent/app"
)

func TestValidate(t *testing.T) {
	t.Setenv("NODE_NAME", "node-1")
	t.Setenv("HOST_IP", "10.0.0.1")
	t.Setenv("POD_NAMESPACE", "cryopod-system")
	t.Setenv("POD_NAME", "cryopod-agent-x")
	t.Setenv("POD_UID", "uid")
	tests := map[string]struct {
		args []string
		want []string
	}{
		"the DaemonSet's":      {[]string{"--registry=registry.local:5000/checkpoints"}, nil},
		"a registry's root":    {[]string{"--registry=registry.example.com"}, nil},
		"no registry":          {nil, []string{"--registry"}},
		"a registry's URL":     {[]string{"--registry=https://registry.example.com/x"}, []string{"--registry"}},
		"a tag":                {[]string{"--registry=registry.example.com/x:latest"}, []string{"--registry"}},
		"no node":              {[]string{"--registry=r.io/x", "--node-name="}, []string{"--node-name"}},
		"an address":           {[]string{"--registry=r.io/x", "--kubelet-address=10.0.0.1"}, []string{"--kubelet-address"}},
		"IPv6":                 {[]string{"--registry=r.io/x", "--kubelet-address=[fd00::1]:10250"}, nil},
		"numbers":              {[]string{"--registry=r.io/x", "--max-parallel=0", "--compress-workers=0"}, []string{"--max-parallel", "--compress-workers"}},
		"bytes of disk":        {[]string{"--registry=r.io/x", "--disk-budget=20Gi"}, nil},
		"too much disk":        {[]string{"--registry=r.io/x", "--disk-budget=150%"}, []string{"--disk-budget"}},
		"no disk":              {[]string{"--registry=r.io/x", "--disk-budget=0"}, []string{"--disk-budget"}},
		"a relative path":      {[]string{"--registry=r.io/x", "--state-dir=state"}, []string{"--state-dir"}},
		"CRIU's options alone": {[]string{"--registry=r.io/x", "--criu-config="}, nil},
		"nothing foreseen":     {[]string{"--registry=r.io/x", "--system-bus=", "--pressure-memory=0"}, nil},
		"foreseen wrongly":     {[]string{"--registry=r.io/x", "--system-bus=bus", "--pressure-memory=-1Gi"}, []string{"--system-bus", "--pressure-memory"}},
		"no pod":               {[]string{"--registry=r.io/x", "--pod-uid="}, []string{"--pod-uid", "--self-test=false"}},
		"no pod and no test":   {[]string{"--registry=r.io/x", "--pod-uid=", "--self-test=false"}, nil},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := app.DefaultOptions()
			flags := pflag.NewFlagSet("agent", pflag.ContinueOnError)
			o.AddFlags(flags)
			if err := flags.Parse(tc.args); err != nil {
				t.Fatal(err)
			}
			err := o.Validate()
			if (err == nil) != (tc.want == nil) {
				t.Fatalf("Validate = %v, want errors on %v", err, tc.want)
			}
			for _, flag := range tc.want {
				if !strings.Contains(err.Error(), flag) {
					t.Errorf("error %q does not name %q", err, flag)
				}
			}
		})
	}
}
