// SPDX-License-Identifier: Apache-2.0

package app_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/cryopod/cryopod/cmd/webhook/app"
	"github.com/cryopod/cryopod/pkg/admission"
	"github.com/cryopod/cryopod/pkg/checkpoint"
	"github.com/cryopod/cryopod/pkg/termination"
)

func environment(values map[string]string) func(string) (string, bool) {
	return func(key string) (string, bool) {
		value, ok := values[key]
		return value, ok
	}
}

func defaults(change ...func(*app.Options)) app.Options {
	o := app.Options{
		Namespace: "cryopod-system", Service: "cryopod-webhook", WebhookPort: 9443,
		MetricsAddress: ":8080", ProbeAddress: ":8081", LeaderElect: true, ShutdownDelay: 5 * time.Second,
		CertMode: app.CertRotate, CertDir: "/etc/cryopod/tls", CertSecret: "cryopod-webhook-tls", Configuration: "cryopod",
		CertLifetime: 90 * 24 * time.Hour, SchedulerLease: "cryopod-scheduler",
		Admission: admission.Options{
			Hold: 20 * time.Second, PreemptionHold: 20 * time.Second, MaxHolds: 64, PickupTimeout: 10 * time.Second, MaxAttempts: 3,
			EvictingUsers: admission.DefaultEvictingUsers,
		},
		Checkpoint: checkpoint.Options{UnboundAfter: 75 * time.Second, ReadyFor: 10 * time.Minute, Retention: keptByDefault},
		Taints:     termination.Defaults(),
		LogLevel:   "info", LogFormat: "json",
	}
	for _, f := range change {
		f(&o)
	}
	return o
}

func TestParse(t *testing.T) {
	for name, tc := range map[string]struct {
		args string
		env  map[string]string
		want app.Options
	}{
		"nothing": {want: defaults()},
		"the namespace of the pod": {
			env:  map[string]string{"POD_NAMESPACE": "elsewhere"},
			want: defaults(func(o *app.Options) { o.Namespace = "elsewhere" }),
		},
		"a namespace by flag": {
			args: "--namespace=here", env: map[string]string{"POD_NAMESPACE": "elsewhere"},
			want: defaults(func(o *app.Options) { o.Namespace = "here" }),
		},
		"the cluster's own scheduler": {
			args: "--scheduler-lease=kube-system/kube-scheduler --scheduler-holder=cryopod-scheduler-",
			want: defaults(func(o *app.Options) {
				o.SchedulerLease, o.SchedulerHolder = "kube-system/kube-scheduler", "cryopod-scheduler-"
			}),
		},
		"files": {
			args: "--cert-mode=files --cert-dir=/tls --cert-secret= --webhook-configuration=",
			want: defaults(func(o *app.Options) {
				o.CertMode, o.CertDir, o.CertSecret, o.Configuration = app.CertFiles, "/tls", "", ""
			}),
		},
		"taints": {
			args: "--termination-taints=example.com/going=60s,-ToBeDeletedByClusterAutoscaler --on-cordon",
			want: defaults(func(o *app.Options) {
				o.Taints = append(slices.DeleteFunc(o.Taints, func(t termination.Taint) bool { return t.Key == "ToBeDeletedByClusterAutoscaler" }),
					termination.Taint{Key: "example.com/going", Notice: time.Minute})
				o.OnCordon = true
			}),
		},
		"bounds": {
			args: "--hold=25s --preemption-hold=1s --evicting-users=me,you:* --max-holds=1 --pickup-timeout=1s --max-attempts=1 " +
				"--unbound-after=61s --ready-for=1s --retention-age=1s --webhook-port=1 --shutdown-delay=0s --metrics-address=0 --cert-lifetime=24h --log-level=debug --log-format=text",
			want: defaults(func(o *app.Options) {
				o.Admission = admission.Options{
					Hold: 25 * time.Second, PreemptionHold: time.Second, MaxHolds: 1, PickupTimeout: time.Second, MaxAttempts: 1,
					EvictingUsers: []string{"me", "you:*"},
				}
				o.Checkpoint = checkpoint.Options{UnboundAfter: 61 * time.Second, ReadyFor: time.Second, Retention: keptByDefault}
				o.Checkpoint.Retention.Policy.Age = time.Second
				o.WebhookPort, o.MetricsAddress, o.CertLifetime, o.ShutdownDelay = 1, "0", 24*time.Hour, 0
				o.LogLevel, o.LogFormat = "debug", "text"
			}),
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := app.Parse(strings.Fields(tc.args), environment(tc.env))
			if err != nil {
				t.Fatalf("Parse: %v", err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("options (-want +got):\n%s", diff)
			}
		})
	}
}

// TestParseRefuses wants each error to name the flag and to say what is wrong with it.
func TestParseRefuses(t *testing.T) {
	for args, want := range map[string][]string{
		"serve":                              {`unexpected argument "serve"`},
		"--no-such-flag":                     {"unknown flag: --no-such-flag"},
		"--hold=30s":                         {"--hold: 30s is not between 0 and 25s"},
		"--hold=0s":                          {"--hold: 0s is not"},
		"--max-holds=0":                      {"--max-holds: 0 is less than 1"},
		"--preemption-hold=26s":              {"--preemption-hold: 26s is not between 0 and 25s"},
		"--evicting-users=a,[b":              {`--evicting-users: "[b" is no pattern`},
		"--max-attempts=0":                   {"--max-attempts: 0 is less than 1"},
		"--pickup-timeout=0s":                {"--pickup-timeout: 0s is not positive"},
		"--unbound-after=1m":                 {"--unbound-after: 1m0s is not longer than 1m0s"},
		"--ready-for=-1s":                    {"--ready-for: -1s is not positive"},
		"--cert-mode=magic":                  {`--cert-mode: "magic" is none of rotate, files`},
		"--cert-mode=files --cert-dir=":      {"--cert-dir: must not be empty"},
		"--cert-secret=":                     {"--cert-secret: must not be empty"},
		"--webhook-configuration=":           {"--webhook-configuration: must not be empty"},
		"--cert-lifetime=1h":                 {"--cert-lifetime: 1h0m0s is too short"},
		"--shutdown-delay=16s":               {"--shutdown-delay: 16s is not between 0 and 15s"},
		"--webhook-port=0":                   {"--webhook-port: 0 is no TCP port"},
		"--webhook-port=65536":               {"--webhook-port: 65536 is no TCP port"},
		"--metrics-address=nowhere":          {`--metrics-address: "nowhere" is no address`},
		"--probe-address=8081":               {`--probe-address: "8081" is no address`},
		"--namespace=":                       {"--namespace: must not be empty"},
		"--service=":                         {"--service: must not be empty"},
		"--scheduler-lease=":                 {"--scheduler-lease: must not be empty"},
		"--scheduler-lease=kube-system/":     {`--scheduler-lease: "kube-system/" is neither NAME nor NAMESPACE/NAME`},
		"--scheduler-lease=/kube-scheduler":  {`--scheduler-lease: "/kube-scheduler" is neither`},
		"--scheduler-lease=a/b/c":            {`--scheduler-lease: "a/b/c" is neither`},
		"--termination-taints=x":             {"--termination-taints", `reading "x": want KEY=NOTICE`},
		"--log-level=loud":                   {`--log-level: "loud" is none of`},
		"--log-format=xml":                   {`--log-format: "xml" is none of`},
		"--hold=1h --max-holds=0 --service=": {"--hold: ", "--max-holds: ", "--service: "},
	} {
		t.Run(args, func(t *testing.T) {
			_, err := app.Parse(strings.Fields(args), environment(nil))
			if err == nil {
				t.Fatal("Parse returned no error")
			}
			for _, w := range want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("error %q lacks %q", err, w)
				}
			}
		})
	}
}

func TestParseHelp(t *testing.T) {
	if _, err := app.Parse([]string{"--help"}, environment(nil)); !errors.Is(err, pflag.ErrHelp) {
		t.Errorf("Parse(--help) = %v, want ErrHelp", err)
	}
}
