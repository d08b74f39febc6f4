// SPDX-License-Identifier: Apache-2.0

package locality_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/locality"
)

func TestDecodeArgs(t *testing.T) {
	args := func(patience time.Duration, cpu locality.CPUFeaturePolicy) locality.CheckpointLocalityArgs {
		return locality.CheckpointLocalityArgs{
			TypeMeta:        metav1.TypeMeta{APIVersion: "checkpoint.io/v1alpha1", Kind: "CheckpointLocalityArgs"},
			RestorePatience: &metav1.Duration{Duration: patience},
			CPUFeatures:     cpu,
			Kernel:          locality.KernelNotOlder,
			Model:           model("64Mi", "128Mi", "512Mi", time.Second, 5, 13*time.Minute, 20*time.Second),
		}
	}
	full := args(90*time.Second, locality.CPUFeaturesIgnore)
	full.Kernel, full.Model = locality.KernelIgnore, model("1Mi", "2M", "3000000", 250*time.Millisecond, 0, 0, time.Minute)
	slow := args(time.Minute, locality.CPUFeaturesSuperset)
	slow.Model.PullBytesPerSecond = ptr.To(resource.MustParse("5Mi"))
	raw := func(s string) runtime.Object { return &runtime.Unknown{Raw: []byte(s)} }
	defaults := args(time.Minute, locality.CPUFeaturesSuperset)
	tests := map[string]struct {
		obj  runtime.Object
		want locality.CheckpointLocalityArgs
		err  string
	}{
		"none":         {obj: nil, want: defaults},
		"empty":        {obj: &runtime.Unknown{}, want: defaults},
		"empty object": {obj: raw(`{}`), want: defaults},
		"all": {obj: raw(`{"apiVersion":"checkpoint.io/v1alpha1","kind":"CheckpointLocalityArgs","restorePatience":"90s","cpuFeatures":"Ignore","kernel":"Ignore",` +
			`"model":{"pullBytesPerSecond":"1Mi","unpackBytesPerSecond":"2M","restoreBytesPerSecond":3000000,"startTime":"250ms","trafficWeight":0,"balanceTime":"0s","fullScale":"1m"}}`), want: full},
		"one constant":     {obj: raw("model: {pullBytesPerSecond: 5Mi}"), want: slow},
		"unknown constant": {obj: raw(`{"model":{"speed":1}}`), err: `unknown field "model.speed"`},
		"not a rate":       {obj: raw(`{"model":{"pullBytesPerSecond":"fast"}}`), err: "decoding CheckpointLocalityArgs: model.pullBytesPerSecond: quantities must match"},
		"no rate":          {obj: raw(`{"model":{"unpackBytesPerSecond":"0"}}`), err: `model.unpackBytesPerSecond: Invalid value: "0": must be at least 1024 bytes a second`},
		"negative start":   {obj: raw(`{"model":{"startTime":"-1s"}}`), err: `model.startTime: Invalid value: "-1s"`},
		"too dear":         {obj: raw(`{"model":{"trafficWeight":101}}`), err: `model.trafficWeight: Invalid value: 101: must be from 0 to 100`},
		"negative load":    {obj: raw(`{"model":{"balanceTime":"-1s"}}`), err: `model.balanceTime: Invalid value: "-1s": must be from 0s to 24h0m0s`},
		"no scale":         {obj: raw(`{"model":{"fullScale":"0s"}}`), err: `model.fullScale: Invalid value: "0s"`},
		"unknown kernel":   {obj: raw(`{"kernel":"Newer"}`), err: `kernel: Unsupported value: "Newer"`},
		"YAML":             {obj: raw("restorePatience: 2m\n"), want: args(2*time.Minute, locality.CPUFeaturesSuperset)},
		"no patience":      {obj: raw(`{"restorePatience":"0s"}`), want: args(0, locality.CPUFeaturesSuperset)},
		"unknown field":    {obj: raw(`{"patience":"90s"}`), err: `unknown field "patience"`},
		"wrong case":       {obj: raw(`{"RestorePatience":"90s"}`), err: `unknown field "RestorePatience"`},
		"repeated field":   {obj: raw(`{"cpuFeatures":"Ignore","cpuFeatures":"Superset"}`), err: `"cpuFeatures" already set`},
		"not a duration":   {obj: raw(`{"restorePatience":"soon"}`), err: `decoding CheckpointLocalityArgs: restorePatience: time: invalid duration "soon"`},
		"negative":         {obj: raw(`{"restorePatience":"-1s"}`), err: `restorePatience: Invalid value: "-1s"`},
		"too patient":      {obj: raw(`{"restorePatience":"2h"}`), err: `restorePatience: Invalid value: "2h0m0s": must be from 0s to 1h0m0s`},
		"unknown policy":   {obj: raw(`{"cpuFeatures":"Some"}`), err: `cpuFeatures: Unsupported value: "Some"`},
		"another version":  {obj: raw(`{"apiVersion":"checkpoint.io/v1"}`), err: `apiVersion: Unsupported value: "checkpoint.io/v1"`},
		"another kind":     {obj: raw(`{"kind":"ImageLocalityArgs"}`), err: `kind: Unsupported value: "ImageLocalityArgs"`},
		"another Go type":  {obj: &corev1.Pod{}, err: "want *runtime.Unknown, got *v1.Pod"},
		"not even YAML":    {obj: raw("\t{"), err: "decoding CheckpointLocalityArgs"},
		"not a dictionary": {obj: raw(`[]`), err: "decoding CheckpointLocalityArgs"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := locality.DecodeArgs(tc.obj)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Fatalf("got the error %v, want one with %q", err, tc.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("args (-want +got):\n%s", diff)
			}
		})
	}
}

func model(pull, unpack, restore string, start time.Duration, traffic int32, balance, fullScale time.Duration) locality.Model {
	rate := func(q string) *resource.Quantity { return ptr.To(resource.MustParse(q)) }
	return locality.Model{
		PullBytesPerSecond: rate(pull), UnpackBytesPerSecond: rate(unpack), RestoreBytesPerSecond: rate(restore),
		StartTime: &metav1.Duration{Duration: start}, TrafficWeight: &traffic, BalanceTime: &metav1.Duration{Duration: balance},
		FullScale: &metav1.Duration{Duration: fullScale},
	}
}
