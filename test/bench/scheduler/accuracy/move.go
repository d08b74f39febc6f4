// SPDX-License-Identifier: Apache-2.0

package accuracy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/cluster"
	"github.com/cryopod/cryopod/test/e2e/image"
	"github.com/cryopod/cryopod/test/e2e/install"
	"github.com/cryopod/cryopod/test/e2e/kubectl"
	"github.com/cryopod/cryopod/test/e2e/trial"
)

const (
	// settled is how many steps a pod does before its node is drained.
	settled = 20
	// toldTimeout bounds what the agent or the scheduler takes to tell of something.
	toldTimeout = time.Minute
	// warmUps is how many images of warmMebibytes the target pulls after its line has changed.
	warmUps, warmMebibytes = 4, 96
	// published is within what time its agent has told what it measured, near how much of the line's rate that may be off.
	published = 20 * time.Second
	near      = 0.3
	agent     = "cryopod-agent"
	scheduler = "cryopod-scheduler"
)

// speakUp has the scheduler write its predictions down.
func speakUp(ctx context.Context, b *bed.Bed) error {
	const verbosity = "-v=2"
	in := []string{"-n", install.Namespace, "deployment/" + scheduler}
	args, err := b.Kubectl.Run(ctx, append([]string{"get", "-o", "jsonpath={.spec.template.spec.containers[0].args}"}, in...)...)
	if err != nil {
		return err
	}
	if !strings.Contains(args, verbosity) {
		add := `[{"op":"add","path":"/spec/template/spec/containers/0/args/-","value":"` + verbosity + `"}]`
		if _, err := b.Kubectl.Run(ctx, append([]string{"patch", "--type=json", "-p", add}, in...)...); err != nil {
			return err
		}
	}
	_, err = b.Kubectl.Run(ctx, append([]string{"rollout", "status", "--timeout=2m"}, in...)...)
	return err
}

// warmUp has the target pull over the line as it is now, with an agent that has known no other: the average of one that has
// follows after some pulls only.
func (r *runner) warmUp(ctx context.Context, rate int) error {
	if err := r.restartAgent(ctx); err != nil {
		return err
	}
	for range warmUps {
		ref, err := r.weigh(ctx, warmMebibytes)
		if err != nil {
			return err
		}
		if err := r.bed.PullImage(ctx, r.target, ref); err != nil {
			return err
		}
		if _, err := r.target.Exec(ctx, "ctr", "-n", "k8s.io", "images", "rm", ref); err != nil {
			return err
		}
	}
	var last int64
	told, cancel := context.WithTimeout(ctx, published)
	defer cancel()
	err := bed.Until(told, func(ctx context.Context) error {
		measured, err := r.measured(ctx)
		if err != nil {
			return err
		}
		last = measured
		if line := float64(rate) * mebibyte; math.Abs(float64(measured)-line) > near*line {
			return fmt.Errorf("%s has measured %d bytes a second", r.target.Name(), measured)
		}
		return nil
	})
	if err != nil && told.Err() == nil {
		return err
	}
	// What it has not learned, or what nobody knows, shows in the error.
	fmt.Fprintf(r.Progress, "line of %d MiB/s (0: as it is); %s has measured %.1f MiB/s\n", rate, r.target.Name(), float64(last)/mebibyte)
	return nil
}

// restartAgent has the target's agent begin anew.
func (r *runner) restartAgent(ctx context.Context) error {
	in := []string{"-n", install.Namespace}
	_, err := r.bed.Kubectl.Run(ctx, append([]string{
		"delete", "pods", "-l", "app.kubernetes.io/name=" + agent, "--field-selector=spec.nodeName=" + r.target.Name(),
	}, in...)...)
	if err != nil {
		return err
	}
	_, err = r.bed.Kubectl.Run(ctx, append([]string{"rollout", "status", "daemonset/" + agent, "--timeout=2m"}, in...)...)
	return err
}

// measured is the target's bandwidth by its profile.
func (r *runner) measured(ctx context.Context) (int64, error) {
	var profile v1alpha1.NodeProfile
	if err := r.bed.Client.Get(ctx, client.ObjectKey{Name: r.target.Name()}, &profile); err != nil {
		return 0, fmt.Errorf("reading node profile %q: %w", r.target.Name(), err)
	}
	return profile.Status.PullBytesPerSecond, nil
}

// weigh makes an image that nobody else has, of the stepper and so many MiB.
func (r *runner) weigh(ctx context.Context, mebibytes int) (string, error) {
	ref := r.bed.Cluster.RegistryName() + "/cryopod/accuracy-" + strings.ToLower(rand.Text()[:8]) + ":1"
	return ref, image.Weigh(ctx, r.bed.OnHost(r.bed.Images.Stepper), r.bed.OnHost(ref), mebibytes)
}

// restore drains one pod off the source, and tells what was predicted for its replacement and what came.
func (r *runner) restore(ctx context.Context, mebibytes int, based bool) (Restore, error) {
	one := Restore{Mebibytes: mebibytes, Based: based}
	base, err := r.weigh(ctx, r.BaseMebibytes)
	if err != nil {
		return one, err
	}
	weighty := *r.bed
	weighty.Images.Stepper = base
	if err := r.bed.Kubectl.Cordon(ctx, r.target.Name()); err != nil {
		return one, err
	}
	var prepared error
	t := trial.Trial{
		Bed: &weighty, Name: "accuracy", Mebibytes: mebibytes, Steps: settled,
		Settled: func(pod *corev1.Pod, _ kubectl.Drain) { prepared = r.prepare(ctx, pod, base, &one) },
	}
	moved, err := t.Run(ctx)
	if err := errors.Join(prepared, err); err != nil {
		return one, err
	}
	if moved.After.Spec.NodeName != r.target.Name() || moved.Verdict.Moves[0].First.Step <= 1 {
		return one, fmt.Errorf("moving a pod of %d MiB: it went to %s and began at step %d", mebibytes, moved.After.Spec.NodeName,
			moved.Verdict.Moves[0].First.Step)
	}
	one.Real = moved.Verdict.Moves[0].First.Time.Sub(moved.Observations.Replacement.Bound).Seconds()
	if err := r.recall(ctx, moved.Namespace+"/"+moved.After.Name, &one); err != nil {
		return one, err
	}
	if err := t.Remove(ctx, moved); err != nil {
		return one, err
	}
	return one, r.removeImage(ctx, base)
}

// prepare makes the target what it is to be when the pod's node is drained.
func (r *runner) prepare(ctx context.Context, pod *corev1.Pod, base string, one *Restore) error {
	if pod.Spec.NodeName != r.source.Name() {
		return fmt.Errorf("pod %q runs on %s, want %s", pod.Name, pod.Spec.NodeName, r.source.Name())
	}
	// A pod that is drained seconds after its image came is rare. Its nodes tell of images some seconds after they come.
	knowing := []*cluster.Node{r.source}
	if one.Based {
		if err := r.bed.PullImage(ctx, r.target, base); err != nil {
			return err
		}
		knowing = append(knowing, r.target)
	}
	told, cancel := context.WithTimeout(ctx, toldTimeout)
	defer cancel()
	for _, n := range knowing {
		knows := func(ctx context.Context) error {
			return r.bed.Knows(ctx, n.Name(), pod.Status.ContainerStatuses[0].ImageID)
		}
		if err := bed.Until(told, knows); err != nil {
			return err
		}
	}
	var err error
	if one.Measured, err = r.measured(ctx); err != nil {
		return err
	}
	return r.bed.Kubectl.Uncordon(ctx, r.target.Name())
}

// recall reads what the scheduler said of the pod.
func (r *runner) recall(ctx context.Context, name string, one *Restore) error {
	ctx, cancel := context.WithTimeout(ctx, toldTimeout)
	defer cancel()
	return bed.Until(ctx, func(ctx context.Context) error {
		log, err := r.bed.Kubectl.Run(ctx, "logs", "-n", install.Namespace, "-l", "app.kubernetes.io/name="+scheduler, "--tail=-1",
			"--since="+strconv.Itoa(int((10*time.Minute).Seconds()))+"s")
		if err != nil {
			return err
		}
		w, err := said(log, name)
		if err != nil {
			return err
		}
		if !w.recalled {
			return fmt.Errorf("the scheduler has not said yet that pod %q runs", name)
		}
		one.Predicted, one.Told, one.Pull, one.Restored = w.predicted, w.told, w.pull, w.restored
		return nil
	})
}

// removeImage removes a base image from both nodes, so that the disk does not fill up.
func (r *runner) removeImage(ctx context.Context, ref string) error {
	for _, n := range r.bed.Cluster.Nodes() {
		if _, err := n.Exec(ctx, "ctr", "-n", "k8s.io", "images", "rm", ref); err != nil {
			return err
		}
	}
	return nil
}
