// SPDX-License-Identifier: Apache-2.0

package termination_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/termination"
)

const (
	spot       = "aws-node-termination-handler/spot-itn"
	preempted  = "cloud.google.com/impending-node-termination"
	autoscaler = "ToBeDeletedByClusterAutoscaler"
	cordoned   = "node.kubernetes.io/unschedulable"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func nodeWith(changes ...func(*corev1.Node)) *corev1.Node {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Annotations: map[string]string{}}}
	for _, c := range changes {
		c(node)
	}
	return node
}

func tainted(keys ...string) func(*corev1.Node) {
	return func(n *corev1.Node) {
		for _, k := range keys {
			n.Spec.Taints = append(n.Spec.Taints, corev1.Taint{Key: k, Value: "any", Effect: corev1.TaintEffectNoSchedule})
		}
	}
}

func since(age time.Duration) func(*corev1.Node) {
	return func(n *corev1.Node) {
		added := metav1.NewTime(now.Add(-age))
		n.Spec.Taints[len(n.Spec.Taints)-1].TimeAdded = &added
	}
}

func annotated(text string) func(*corev1.Node) {
	return func(n *corev1.Node) { n.Annotations[v1alpha1.AnnotationNotice] = text }
}

func notice(cause string, age, length time.Duration, voluntary bool) termination.Notice {
	begin := now.Add(-age)
	return termination.Notice{Cause: cause, Since: begin, Deadline: begin.Add(length), Voluntary: voluntary}
}

func TestOfAndStamp(t *testing.T) {
	cordon := func(n *corev1.Node) { n.Spec.Unschedulable = true }
	short, long := 30*time.Second, 2*time.Minute
	for name, tc := range map[string]struct {
		node   *corev1.Node
		cordon bool
		want   termination.Notice // the zero value: none
		keep   bool               // the annotation stays as it is
	}{
		"nothing":                        {node: nodeWith(), keep: true},
		"taints of others":               {node: nodeWith(tainted("kubernetes.azure.com/scalesetpriority", "DeletionCandidateOfClusterAutoscaler")), keep: true},
		"out of service":                 {node: nodeWith(tainted("node.kubernetes.io/out-of-service")), keep: true},
		"spot":                           {node: nodeWith(tainted(spot)), want: notice(spot, 0, long, false)},
		"a taint that tells its age":     {node: nodeWith(tainted(spot), since(40*time.Second)), want: notice(spot, 40*time.Second, long, false)},
		"a taint from the future":        {node: nodeWith(tainted(spot), since(-time.Minute)), want: notice(spot, 0, long, false)},
		"a taint of last week":           {node: nodeWith(tainted(spot), since(7*24*time.Hour)), want: notice(spot, 7*24*time.Hour, long, false)},
		"two, the shorter":               {node: nodeWith(tainted(spot, preempted)), want: notice(preempted, 0, short, false)},
		"two, the one that is certain":   {node: nodeWith(tainted(autoscaler, spot)), want: notice(spot, 0, long, false)},
		"two of a kind":                  {node: nodeWith(tainted("aws-node-termination-handler/rebalance-recommendation", autoscaler)), want: notice(autoscaler, 0, long, true)},
		"noticed before":                 {node: nodeWith(tainted(spot), annotated(notice(spot, time.Minute, long, false).Encode())), want: notice(spot, time.Minute, long, false), keep: true},
		"noticed long ago":               {node: nodeWith(tainted(spot), annotated(notice(spot, time.Hour, long, false).Encode())), want: notice(spot, time.Hour, long, false), keep: true},
		"noticed, then a shorter one":    {node: nodeWith(tainted(spot, preempted), annotated(notice(spot, time.Minute, long, false).Encode())), want: notice(preempted, 0, short, false)},
		"noticed, then one that is late": {node: nodeWith(tainted(spot, preempted), annotated(notice(spot, 100*time.Second, long, false).Encode())), want: notice(spot, 100*time.Second, long, false), keep: true},
		"noticed, of two the other left": {node: nodeWith(tainted(autoscaler), annotated(notice(spot, time.Minute, long, false).Encode())), want: notice(autoscaler, 0, long, true)},
		"noticed, the taint has gone":    {node: nodeWith(annotated(notice(spot, time.Minute, long, false).Encode()))},
		"somebody wrote nonsense":        {node: nodeWith(tainted(spot), annotated("soon")), want: notice(spot, 0, long, false)},
		"somebody wrote a longer notice": {node: nodeWith(tainted(spot), annotated(notice(spot, 0, 50*time.Minute, false).Encode())), want: notice(spot, 0, long, false)},
		"somebody made it voluntary":     {node: nodeWith(tainted(spot), annotated(notice(spot, 0, long, true).Encode())), want: notice(spot, 0, long, false)},
		"somebody wrote without a taint": {node: nodeWith(annotated(notice(spot, 0, long, false).Encode()))},
		"cordoned, which does not count": {node: nodeWith(cordon, tainted(cordoned)), keep: true},
		"cordoned":                       {node: nodeWith(cordon), cordon: true, want: notice(cordoned, 0, long, true)},
		"cordoned, by its taint":         {node: nodeWith(tainted(cordoned)), cordon: true, want: notice(cordoned, 0, long, true)},
		"cordoned and ending":            {node: nodeWith(cordon, tainted(spot)), cordon: true, want: notice(spot, 0, long, false)},
	} {
		t.Run(name, func(t *testing.T) {
			list, before := termination.Defaults(), tc.node.DeepCopy()
			if tc.cordon {
				list = append(list, termination.Cordon())
			}
			got, ok := list.Of(tc.node, now)
			if diff := cmp.Diff(tc.want, got); diff != "" || ok != (tc.want.Cause != "") {
				t.Errorf("notice %v (-want +got):\n%s", ok, diff)
			}
			value, change := list.Stamp(tc.node, now)
			if change == tc.keep {
				t.Errorf("change = %v to %q", change, value)
			}
			if tc.want.Cause != "" {
				stamped, err := termination.Decode(value)
				if diff := cmp.Diff(tc.want, stamped); diff != "" || err != nil {
					t.Errorf("annotation: %v (-want +got):\n%s", err, diff)
				}
			} else if value != "" {
				t.Errorf("annotation %q, want none", value)
			}
			if diff := cmp.Diff(before, tc.node); diff != "" {
				t.Errorf("the node given was changed:\n%s", diff)
			}
			tc.node.Annotations[v1alpha1.AnnotationNotice] = value
			if value == "" {
				delete(tc.node.Annotations, v1alpha1.AnnotationNotice)
			}
			if value, change := list.Stamp(tc.node, now.Add(10*time.Second)); change {
				t.Errorf("stamped again 10 s later, to %q", value)
			}
		})
	}
}

func TestRunning(t *testing.T) {
	spotNotice := notice(spot, time.Minute, 2*time.Minute, false)
	for name, tc := range map[string]struct {
		node *corev1.Node
		at   time.Duration
		want bool
	}{
		"none":                       {node: nodeWith(tainted(spot))},
		"runs":                       {node: nodeWith(annotated(spotNotice.Encode())), want: true},
		"its last moment":            {node: nodeWith(annotated(spotNotice.Encode())), at: 59 * time.Second, want: true},
		"over":                       {node: nodeWith(annotated(spotNotice.Encode())), at: time.Minute},
		"a clock that is behind":     {node: nodeWith(annotated(notice(spot, -30*time.Second, 2*time.Minute, false).Encode())), want: true},
		"from tomorrow":              {node: nodeWith(annotated(notice(spot, -24*time.Hour, 2*time.Minute, false).Encode()))},
		"begins in an hour":          {node: nodeWith(annotated(notice(spot, -50*time.Minute, 2*time.Minute, false).Encode()))},
		"ends in more than an hour":  {node: nodeWith(annotated(notice(spot, -time.Minute, time.Hour, false).Encode()))},
		"lasts a week":               {node: nodeWith(annotated(notice(spot, time.Hour, 7*24*time.Hour, false).Encode()))},
		"ends before it begins":      {node: nodeWith(annotated(notice(spot, 0, -time.Minute, false).Encode()))},
		"without a cause":            {node: nodeWith(annotated(notice("", 0, time.Minute, false).Encode()))},
		"no JSON":                    {node: nodeWith(annotated("120s"))},
		"no object":                  {node: nodeWith(annotated(`["spot"]`))},
		"two objects":                {node: nodeWith(annotated(spotNotice.Encode() + spotNotice.Encode()))},
		"no times":                   {node: nodeWith(annotated(`{"cause":"spot","since":"yesterday","deadline":"tomorrow"}`))},
		"empty":                      {node: nodeWith(annotated(""))},
		"far too long":               {node: nodeWith(annotated(string(make([]byte, 200<<10))))},
		"a field that we don't know": {node: nodeWith(annotated(`{"more":1,` + spotNotice.Encode()[1:])), want: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, running := termination.Running(tc.node, now.Add(tc.at))
			if running != tc.want {
				t.Errorf("running = %v, want %v (%+v)", running, tc.want, got)
			}
			if running && got.Cause != spot {
				t.Errorf("cause = %q", got.Cause)
			}
		})
	}
}

func TestMargin(t *testing.T) {
	for length, want := range map[time.Duration]time.Duration{30 * time.Second: 2500 * time.Millisecond, 2 * time.Minute: 7 * time.Second} {
		if got := notice(spot, 0, length, false).Margin(); got != want {
			t.Errorf("margin of %s = %s, want %s", length, got, want)
		}
	}
}
