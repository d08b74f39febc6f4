// SPDX-License-Identifier: Apache-2.0

package main_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	"k8s.io/kubernetes/pkg/scheduler/apis/config"
	"k8s.io/kubernetes/pkg/scheduler/apis/config/validation"
	"sigs.k8s.io/yaml"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/locality"
)

// checkout is the repository, seen from this package.
const checkout = "../.."

// load reads a configuration as the scheduler does: strictly, with kube-scheduler's own validation, and the plugin's args by the plugin.
func load(path string) (*config.KubeSchedulerConfiguration, error) {
	c, err := options.LoadConfigFromFile(klog.Background(), path)
	if err != nil {
		return nil, err
	}
	// Asked for by its interface: the aggregate of no errors is a nil of its own.
	if errs := validation.ValidateKubeSchedulerConfiguration(c); errs != nil && len(errs.Errors()) > 0 {
		return nil, errs
	}
	for _, profile := range c.Profiles {
		for _, plugin := range profile.PluginConfig {
			if plugin.Name != locality.Name {
				continue
			}
			if _, err := locality.DecodeArgs(plugin.Args); err != nil {
				return nil, err
			}
		}
	}
	return c, nil
}

// configurations are all that the repository has: files, and blocks of the documentation.
func configurations(t *testing.T) map[string]string {
	t.Helper()
	kind := regexp.MustCompile(`(?m)^kind: KubeSchedulerConfiguration$`)
	found := map[string]string{}
	err := filepath.WalkDir(filepath.Join(checkout, "manifests"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err == nil && kind.Match(data) {
			found[strings.TrimPrefix(path, checkout+"/")] = path
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(document(t), -1) {
		if !kind.MatchString(block[1]) {
			continue
		}
		path := filepath.Join(t.TempDir(), "block.yaml")
		if err := os.WriteFile(path, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
		found["docs/scheduling.md#"+string(rune('a'+i))] = path
	}
	return found
}

func document(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(checkout, "docs", "scheduling.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestConfigurations has every configuration of the repository be one that the scheduler starts with, and that places Cryopod's pods.
func TestConfigurations(t *testing.T) {
	found := configurations(t)
	if len(found) < 6 {
		t.Errorf("found %d configurations only: has their folder moved?", len(found))
	}
	for name, path := range found {
		t.Run(name, func(t *testing.T) {
			c, err := load(path)
			if err != nil {
				t.Fatal(err)
			}
			own := slices.IndexFunc(c.Profiles, func(p config.KubeSchedulerProfile) bool { return p.SchedulerName == v1alpha1.SchedulerName })
			if own < 0 {
				t.Fatalf("there is no profile %q", v1alpha1.SchedulerName)
			}
			// The plugin takes ImageLocality's part and nobody else's: the others stay on.
			enabled := c.Profiles[own].Plugins.MultiPoint.Enabled
			if !slices.ContainsFunc(enabled, func(p config.Plugin) bool { return p.Name == locality.Name && p.Weight > 0 }) {
				t.Errorf("profile %q does not have the plugin: %v", v1alpha1.SchedulerName, enabled)
			}
			if !slices.ContainsFunc(enabled, func(p config.Plugin) bool { return p.Name == "TaintToleration" }) {
				t.Errorf("profile %q lacks the default plugins: %v", v1alpha1.SchedulerName, enabled)
			}
			if slices.ContainsFunc(enabled, func(p config.Plugin) bool { return p.Name == "ImageLocality" }) {
				t.Errorf("profile %q has ImageLocality too: each pod would pay for both", v1alpha1.SchedulerName)
			}
			if !c.LeaderElection.LeaderElect {
				t.Error("its replicas elect no leader")
			}
		})
	}
}

// TestDefaultsAreShown has the configuration as shipped spell out every arg with its default, and the documentation have a line for each.
func TestDefaultsAreShown(t *testing.T) {
	want := plain(t, must(t)(locality.DecodeArgs(nil)))
	for _, file := range []string{"scheduler/config.yaml", "components/cluster-scheduler/config.yaml", "components/own-nodes/config.yaml"} {
		c, err := load(filepath.Join(checkout, "manifests", file))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, plain(t, shown(t, c))); diff != "" {
			t.Errorf("%s (-defaults +shown):\n%s", file, diff)
		}
	}
	text := document(t)
	for path, value := range leaves("", want) {
		if path == "apiVersion" || path == "kind" {
			continue
		}
		if row := "| `" + path + "` | `" + value + "` |"; !strings.Contains(text, row) {
			t.Errorf("docs/scheduling.md has no row that begins with %s", row)
		}
	}
}

// shown are the plugin's args exactly as the configuration spells them.
func shown(t *testing.T, c *config.KubeSchedulerConfiguration) any {
	t.Helper()
	for _, profile := range c.Profiles {
		for _, plugin := range profile.PluginConfig {
			if unknown, ok := plugin.Args.(*runtime.Unknown); ok && plugin.Name == locality.Name {
				var args any
				if err := yaml.Unmarshal(unknown.Raw, &args); err != nil {
					t.Fatal(err)
				}
				return args
			}
		}
	}
	t.Fatal("there are no args")
	return nil
}

// plain is the value as JSON has it. Durations lose what Go writes and nobody else does.
func plain(t *testing.T, v any) map[string]any {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(string(data), `m0s"`, `m"`)), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// leaves are the fields that are no objects, by their paths.
func leaves(path string, object map[string]any) map[string]string {
	out := map[string]string{}
	for key, value := range object {
		at := strings.TrimPrefix(path+"."+key, ".")
		switch v := value.(type) {
		case map[string]any:
			for p, l := range leaves(at, v) {
				out[p] = l
			}
		case string:
			out[at] = v
		default:
			data, _ := json.Marshal(v)
			out[at] = string(data)
		}
	}
	return out
}

func must(t *testing.T) func(locality.CheckpointLocalityArgs, error) locality.CheckpointLocalityArgs {
	t.Helper()
	return func(a locality.CheckpointLocalityArgs, err error) locality.CheckpointLocalityArgs {
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

// TestMistakesAreNamed has each mistake keep the scheduler from starting, with an error that names the field.
func TestMistakesAreNamed(t *testing.T) {
	shipped, err := os.ReadFile(filepath.Join(checkout, "manifests", "scheduler", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, replaced, want string }{
		"another's format":          {"kubescheduler.config.k8s.io/v1", "kubescheduler.config.k8s.io/v1beta3", "v1beta3"},
		"no such field":             {"leaderElect:", "electLeader:", `unknown field "leaderElection.electLeader"`},
		"no such field of a plugin": {"weight: 6", "wait: 5", `unknown field "profiles[0].plugins.multiPoint.enabled[0].wait"`},
		"no such lock":              {"resourceLock: leases", "resourceLock: endpoints", `leaderElection.resourceLock: Invalid value: "endpoints"`},
		"no such arg":               {"restorePatience:", "patience:", `unknown field "patience"`},
		"an arg of no such model":   {"startTime:", "start:", `unknown field "model.start"`},
		"a policy that is none":     {"cpuFeatures: Superset", "cpuFeatures: superset", `cpuFeatures: Unsupported value: "superset"`},
		"a kernel policy":           {"kernel: NotOlder", "kernel: Same", `kernel: Unsupported value: "Same"`},
		"a rate that is none":       {"pullBytesPerSecond: 64Mi", "pullBytesPerSecond: fast", "model.pullBytesPerSecond: quantities must match"},
		"a rate of another unit":    {"pullBytesPerSecond: 64Mi", "pullBytesPerSecond: 64", `model.pullBytesPerSecond: Invalid value: "64"`},
		"nothing is ever unpacked":  {"unpackBytesPerSecond: 128Mi", "unpackBytesPerSecond: 0", `model.unpackBytesPerSecond: Invalid value: "0"`},
		"restores run backwards":    {"restoreBytesPerSecond: 512Mi", "restoreBytesPerSecond: -1Mi", `model.restoreBytesPerSecond: Invalid value: "-1Mi"`},
		"before it is placed":       {"startTime: 1s", "startTime: -1s", `model.startTime: Invalid value: "-1s"`},
		"no scale":                  {"fullScale: 20s", "fullScale: 0s", `model.fullScale: Invalid value: "0s"`},
		"a number":                  {"fullScale: 20s", "fullScale: 20", "model.fullScale of type string"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "config.yaml")
			text := strings.Replace(string(shipped), tc.old, tc.replaced, 1)
			if text == string(shipped) {
				t.Fatalf("the configuration as shipped has no %q", tc.old)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := load(path); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got the error %v, want one with %s", err, tc.want)
			}
		})
	}
}
