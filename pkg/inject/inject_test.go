// SPDX-License-Identifier: Apache-2.0

package inject_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/inject"
	"github.com/cryopod/cryopod/pkg/termination"
)

func podWith(changes ...func(*corev1.Pod)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "ns", Name: "web-0", Annotations: map[string]string{v1alpha1.AnnotationEnabled: "true"},
		},
		Spec: corev1.PodSpec{
			SchedulerName:  "default-scheduler",
			InitContainers: []corev1.Container{{Name: "side", Image: "side:1"}},
			Containers:     []corev1.Container{{Name: "main", Image: "app:1", ImagePullPolicy: corev1.PullAlways}},
		},
	}
	for _, c := range changes {
		c(pod)
	}
	return pod
}

var options = inject.Options{TemplateHash: "hash", Scheduler: true}

func TestOptIn(t *testing.T) {
	env := []corev1.EnvVar{{Name: "GODEBUG", Value: "multipathtcp=0"}, {Name: "UV_USE_IO_URING", Value: "0"}}
	defaultProfile := &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}
	type seen struct {
		Scheduler   string
		Env         []corev1.EnvVar
		Seccomp     *corev1.SeccompProfile
		MainSeccomp *corev1.SeccompProfile
	}
	tests := map[string]struct {
		change  func(*corev1.Pod)
		options inject.Options
		want    seen
	}{
		"plain": {options: options, want: seen{Scheduler: "cryopod-scheduler", Env: env, Seccomp: defaultProfile}},
		"no scheduler about": {
			options: inject.Options{TemplateHash: "hash"},
			want:    seen{Scheduler: "default-scheduler", Env: env, Seccomp: defaultProfile},
		},
		"own scheduler": {
			options: options, change: func(p *corev1.Pod) { p.Spec.SchedulerName = "theirs" },
			want: seen{Scheduler: "theirs", Env: env, Seccomp: defaultProfile},
		},
		"scheduled already": {
			options: options, change: func(p *corev1.Pod) { p.Spec.NodeName = "n" },
			want: seen{Scheduler: "default-scheduler", Env: env, Seccomp: defaultProfile},
		},
		"injection off": {
			options: options, change: func(p *corev1.Pod) { p.Annotations[v1alpha1.AnnotationInject] = "false" },
			want: seen{Scheduler: "cryopod-scheduler"},
		},
		"own GODEBUG": {
			options: options, change: func(p *corev1.Pod) {
				p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "GODEBUG", Value: "netdns=go"}}
			},
			want: seen{
				Scheduler: "cryopod-scheduler", Env: []corev1.EnvVar{{Name: "GODEBUG", Value: "netdns=go"}, env[1]},
				Seccomp: defaultProfile,
			},
		},
		"variables from elsewhere": {
			options: options, change: func(p *corev1.Pod) { p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{}} },
			want: seen{
				Scheduler: "cryopod-scheduler", Env: []corev1.EnvVar{{Name: "GODEBUG", Value: "multipathtcp=0,$(GODEBUG)"}},
				Seccomp: defaultProfile,
			},
		},
		"own profile of the pod": {
			options: options, change: func(p *corev1.Pod) {
				p.Spec.SecurityContext = &corev1.PodSecurityContext{SeccompProfile: unconfined()}
			},
			want: seen{Scheduler: "cryopod-scheduler", Env: env, Seccomp: unconfined()},
		},
		"own profile of a container": {
			options: options, change: func(p *corev1.Pod) {
				p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{SeccompProfile: unconfined()}
			},
			want: seen{Scheduler: "cryopod-scheduler", Env: env, Seccomp: defaultProfile, MainSeccomp: unconfined()},
		},
		"privileged container": {
			options: options, change: func(p *corev1.Pod) {
				p.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
			},
			want: seen{Scheduler: "cryopod-scheduler", Env: env},
		},
		"privileged sidecar": {
			options: options, change: func(p *corev1.Pod) {
				p.Spec.InitContainers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
			},
			want: seen{Scheduler: "cryopod-scheduler", Env: env, MainSeccomp: defaultProfile},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := podWith()
			if tc.change != nil {
				tc.change(in)
			}
			got := applyTwice(t, in, func(p *corev1.Pod) *corev1.Pod { return inject.OptIn(p, tc.options) })
			s := seen{Scheduler: got.Spec.SchedulerName, Env: got.Spec.Containers[0].Env}
			if sc := got.Spec.SecurityContext; sc != nil {
				s.Seccomp = sc.SeccompProfile
			}
			if sc := got.Spec.Containers[0].SecurityContext; sc != nil {
				s.MainSeccomp = sc.SeccompProfile
			}
			if diff := cmp.Diff(tc.want, s); diff != "" {
				t.Errorf("OptIn (-want +got):\n%s", diff)
			}
			if l, a := got.Labels[v1alpha1.LabelEnabled], got.Annotations[v1alpha1.AnnotationTemplateHash]; l != "true" || a != "hash" {
				t.Errorf("OptIn sets label %q, template hash %q", l, a)
			}
		})
	}
}

func TestOptInTolerations(t *testing.T) {
	const gke = "cloud.google.com/impending-node-termination"
	tests := map[string]struct {
		have []corev1.Toleration
		add  bool
	}{
		"none":                     {add: true},
		"another key":              {have: []corev1.Toleration{{Key: "x", Operator: corev1.TolerationOpExists}}, add: true},
		"another effect":           {have: []corev1.Toleration{{Key: gke, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, add: true},
		"the key":                  {have: []corev1.Toleration{{Key: gke, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}},
		"the key, any effect":      {have: []corev1.Toleration{{Key: gke, Value: "v"}}},
		"everything":               {have: []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		"everything of NoExecute":  {have: []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute}}},
		"everything of NoSchedule": {have: []corev1.Toleration{{Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoSchedule}}, add: true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			in := podWith(func(p *corev1.Pod) { p.Spec.Tolerations = tc.have })
			got := applyTwice(t, in, func(p *corev1.Pod) *corev1.Pod { return inject.OptIn(p, options) }).Spec.Tolerations
			var added []corev1.Toleration
			for _, tol := range got[len(tc.have):] {
				if tol.Key == gke {
					added = append(added, tol)
				}
			}
			var want []corev1.Toleration
			if tc.add {
				want = []corev1.Toleration{{
					Key: gke, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(22)),
				}}
			}
			if diff := cmp.Diff(want, added); diff != "" {
				t.Errorf("added tolerations (-want +got):\n%s", diff)
			}
		})
	}
}

// TestOptInTolerationsOfTheList wants one for each taint of the list that is given, for three quarters of its notice, and none for others.
func TestOptInTolerationsOfTheList(t *testing.T) {
	list := termination.List{{Key: "example.com/going", Notice: time.Minute}, {Key: "slow", Notice: time.Hour, Voluntary: true}, termination.Cordon()}
	o := options
	o.Taints = list
	got := applyTwice(t, podWith(), func(p *corev1.Pod) *corev1.Pod { return inject.OptIn(p, o) }).Spec.Tolerations
	want := []corev1.Toleration{
		{Key: "example.com/going", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(45))},
		{Key: "slow", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To(int64(2700))},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("tolerations (-want +got):\n%s", diff)
	}
}

func TestStrip(t *testing.T) {
	forged := podWith(func(p *corev1.Pod) {
		for _, key := range []string{"restore-from", "claim", "template-hash", "base-images", "fell-back", "deadline", "max-freeze", "inject"} {
			p.Annotations["checkpoint.io/"+key] = "forged"
		}
		p.Labels = map[string]string{"checkpoint.io/enabled": "x", "checkpoint.io/restoring": "true", "app": "web"}
	})
	got := applyTwice(t, forged, inject.Strip)
	wantAnnotations := map[string]string{
		"checkpoint.io/enabled": "true", "checkpoint.io/deadline": "forged", "checkpoint.io/max-freeze": "forged", "checkpoint.io/inject": "forged",
	}
	if diff := cmp.Diff(wantAnnotations, got.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"app": "web"}, got.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
}

func unconfined() *corev1.SeccompProfile {
	return &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined}
}

// applyTwice checks that the mutation leaves its argument alone and that a second one changes nothing.
func applyTwice(t *testing.T, in *corev1.Pod, mutate func(*corev1.Pod) *corev1.Pod) *corev1.Pod {
	t.Helper()
	before := in.DeepCopy()
	once := mutate(in)
	if diff := cmp.Diff(before, in); diff != "" {
		t.Errorf("the argument was changed (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(once, mutate(once)); diff != "" {
		t.Errorf("applied twice (-once +twice):\n%s", diff)
	}
	return once
}
