// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e_test

import (
	"context"
	"fmt"
	"strconv"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cryopod/cryopod/test/e2e/bed"
	"github.com/cryopod/cryopod/test/e2e/object"
	"github.com/cryopod/cryopod/test/e2e/recorder"
	"github.com/cryopod/cryopod/test/e2e/workload/script"
)

// jobSteps take the Job more than a minute: it has to be drained before.
const jobSteps = 1600

// moveCase is a workload that must carry on where it stopped.
type moveCase struct {
	// containers are those that report steps.
	containers []string
	objects    func(*scene) []client.Object
	// then is what must hold after the move, beyond that.
	then func(*scene)
}

var movable = map[string]moveCase{
	// A Go program that listens would use MPTCP, were it not for what admission puts into its environment.
	"deployment":  {containers: []string{"main"}, objects: deployment(listener)},
	"statefulset": {containers: []string{"main"}, objects: statefulSet},
	"job":         {containers: []string{"main"}, objects: job, then: jobEnds},
	"containers":  {containers: []string{"first", "second", "sidecar"}, objects: containersAndSidecar},
	"memory":      {containers: []string{"main"}, objects: deployment(memory)},
	"python":      {containers: []string{"main"}, objects: deployment(python)},
	"nodejs":      {containers: []string{"main"}, objects: deployment(nodeJS)},
	"java":        {containers: []string{"main"}, objects: deployment(java)},
	"redis":       {containers: []string{"driver"}, objects: deployment(redis)},
	"nginx":       {containers: []string{"driver"}, objects: deployment(nginx)},
	"connection":  {containers: []string{"main"}, objects: connection},
	"crash":       {containers: []string{"main"}, objects: deployment(listener), then: crashStartsCold},
}

// deployment is one of the containers that are given, with the scripts.
func deployment(containers func(*scene) []corev1.Container) func(*scene) []client.Object {
	return func(s *scene) []client.Object {
		return []client.Object{s.Scripts(), s.Deployment(s.name, s.Template(s.name, containers(s)...))}
	}
}

func listener(s *scene) []corev1.Container {
	return []corev1.Container{s.Stepper(s.name, "main", "-listen=:8080")}
}

func memory(s *scene) []corev1.Container {
	return []corev1.Container{s.Stepper(s.name, "main", "-memory=256")}
}

func python(s *scene) []corev1.Container {
	return []corev1.Container{s.Python(s.name, "main", 32)}
}

func nodeJS(s *scene) []corev1.Container {
	return []corev1.Container{s.NodeJS(s.name, "main", 32)}
}

func java(s *scene) []corev1.Container {
	return []corev1.Container{s.Java(s.name, "main", 32)}
}

func redis(s *scene) []corev1.Container {
	return []corev1.Container{s.Redis("server"), s.Stepper(s.name, "driver", "-redis=127.0.0.1:"+object.RedisPort)}
}

func nginx(s *scene) []corev1.Container {
	return []corev1.Container{s.Nginx("server"), s.Stepper(s.name, "driver", "-nginx="+script.NginxStatus)}
}

// statefulSet keeps its state on storage that both nodes reach, too.
func statefulSet(s *scene) []client.Object {
	const claim, mount = "data", "/data"
	container := s.Stepper(s.name, "main", "-state-file="+mount+"/state")
	container.VolumeMounts = []corev1.VolumeMount{{Name: claim, MountPath: mount}}
	volume := s.SharedVolume(claim+"-"+s.name+"-0", "/mnt/shared/"+s.Namespace)
	s.t.Cleanup(func() {
		if err := testbed.Client.Delete(context.Background(), volume); err != nil {
			s.t.Error(err)
		}
	})
	return []client.Object{volume, s.StatefulSet(s.name, s.Template(s.name, container), s.Claim(claim))}
}

func job(s *scene) []client.Object {
	return []client.Object{s.Job(s.name, s.Template(s.name, s.Stepper(s.name, "main", "-until="+strconv.Itoa(jobSteps))))}
}

// jobEnds fails the test unless the Job does its last step and is complete, without one step done again.
func jobEnds(s *scene) {
	ctx, cancel := s.within(startTimeout)
	defer cancel()
	verdict := recorder.Check(s.wait(ctx, "main", recorder.Reached(jobSteps)))
	if err := verdict.Err(); err != nil {
		s.t.Error(err)
	}
	err := bed.Until(ctx, func(ctx context.Context) error {
		var j batchv1.Job
		if err := testbed.Client.Get(ctx, client.ObjectKey{Namespace: s.Namespace, Name: s.name}, &j); err != nil {
			return err
		}
		if j.Status.Succeeded != 1 {
			return fmt.Errorf("the Job has %d pods succeeded", j.Status.Succeeded)
		}
		return nil
	})
	if err != nil {
		s.t.Error(err)
	}
}

func containersAndSidecar(s *scene) []client.Object {
	template := s.Template(s.name, s.Stepper(s.name, "first"), s.Stepper(s.name, "second"))
	sidecar := s.Stepper(s.name, "sidecar")
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	template.Spec.InitContainers = []corev1.Container{sidecar}
	return []client.Object{s.Deployment(s.name, template)}
}

// connection reaches the recorder through a Service, by its name, and keeps the connection open.
func connection(s *scene) []client.Object {
	service, slice, address := testbed.RecorderService(s.Maker)
	s.Recorder = address
	return []client.Object{service, slice, s.Deployment(s.name, s.Template(s.name, s.Stepper(s.name, "main")))}
}

// crashSteps is how many steps a restored container does before it is killed: by then its node's agent has seen that it runs.
const crashSteps = 200

// crashStartsCold kills the process of a restored pod: it must begin anew, and never go back to its checkpoint.
func crashStartsCold(s *scene) {
	ctx, cancel := s.within(startTimeout)
	defer cancel()
	pod, err := testbed.Pod(ctx, s.Namespace, s.name)
	if err != nil {
		s.t.Fatal(err)
	}
	before := s.wait(ctx, "main", recorder.Reached(crashSteps))
	node, err := testbed.Cluster.Node(pod.Spec.NodeName)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := node.Exec(ctx, "pkill", "-KILL", "-f", "--", "-name="+s.Workload(s.name, "main")); err != nil {
		s.t.Fatal(err)
	}
	err = bed.Until(ctx, func(ctx context.Context) error {
		now, err := testbed.RunningPod(ctx, s.Namespace, s.name)
		if err == nil && now.Spec.Containers[0].Image != s.Images.Stepper {
			err = fmt.Errorf("pod %q has image %q, want its owner's", now.Name, now.Spec.Containers[0].Image)
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	settledAt := time.Now().Add(time.Second)
	entries := s.wait(ctx, "main", func(all []recorder.Entry) bool { return all[len(all)-1].Time.After(settledAt) })
	starts := 0
	for i := len(before); i < len(entries); i++ {
		if entries[i].Step <= entries[i-1].Step {
			starts++
			if entries[i].Step != 1 {
				s.t.Errorf("after the crash the process went on at step %d, want a start from step 1", entries[i].Step)
			}
		}
	}
	if starts == 0 {
		s.t.Error("the process was killed and never started again")
	}
	s.t.Logf("after the crash the process started %d times, each time from its first step", starts)
}
