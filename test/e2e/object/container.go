// SPDX-License-Identifier: Apache-2.0

package object

import (
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cryopod/cryopod/test/e2e/workload/script"
)

const (
	// scriptDir is where the ConfigMap of Scripts is mounted.
	scriptDir    = "/scripts"
	scriptVolume = "scripts"
	// interval is the time between two steps of a workload.
	interval = 50 * time.Millisecond
)

// Maker makes objects in one namespace.
type Maker struct {
	Namespace string
	// Recorder is the recorder's host and port as pods reach it.
	Recorder string
	Images   Images
}

// Workload is the recorder's name for the steps of a container of the pods named after name.
func (m Maker) Workload(name, container string) string {
	return m.Namespace + "/" + name + "/" + container
}

// Stepper is a Go process that counts. Further arguments are those of test/e2e/workload/stepper.
func (m Maker) Stepper(name, container string, args ...string) corev1.Container {
	return corev1.Container{
		Name:  container,
		Image: m.Images.Stepper,
		Args: append([]string{
			"-name=" + m.Workload(name, container), "-recorder=" + m.Recorder, "-interval=" + interval.String(),
		}, args...),
		Resources: small(),
	}
}

// Python is the Python workload with so many MiB. Like the next two, it needs the ConfigMap of Scripts.
func (m Maker) Python(name, container string, mebibytes int) corev1.Container {
	return m.scripted(name, container, m.Images.Python, mebibytes, "python3", scriptDir+"/stepper.py")
}

// NodeJS is the Node.js workload with so many MiB.
func (m Maker) NodeJS(name, container string, mebibytes int) corev1.Container {
	return m.scripted(name, container, m.Images.NodeJS, mebibytes, "node", scriptDir+"/stepper.js")
}

// Java is the Java workload with so many MiB. It is compiled when the container starts.
func (m Maker) Java(name, container string, mebibytes int) corev1.Container {
	const compileAndRun = "mkdir /classes && javac -d /classes " + scriptDir + "/Stepper.java && exec java -Xmx256m -cp /classes Stepper"
	return m.scripted(name, container, m.Images.Java, mebibytes, "/bin/sh", "-c", compileAndRun)
}

func (m Maker) scripted(name, container, image string, mebibytes int, command ...string) corev1.Container {
	return corev1.Container{
		Name:    container,
		Image:   image,
		Command: command,
		Env: []corev1.EnvVar{
			{Name: "NAME", Value: m.Workload(name, container)},
			{Name: "RECORDER", Value: m.Recorder},
			{Name: "INTERVAL_MS", Value: strconv.FormatInt(interval.Milliseconds(), 10)},
			{Name: "MEMORY_MIB", Value: strconv.Itoa(mebibytes)},
		},
		Resources:    small(),
		VolumeMounts: []corev1.VolumeMount{{Name: scriptVolume, MountPath: scriptDir, ReadOnly: true}},
	}
}

// RedisPort is where the server of Redis listens.
const RedisPort = "6379"

// Redis is a Redis server with nothing on disk.
func (m Maker) Redis(container string) corev1.Container {
	return corev1.Container{
		Name:      container,
		Image:     m.Images.Redis,
		Command:   []string{"redis-server", "--bind", "127.0.0.1", "--port", RedisPort, "--save", "", "--appendonly", "no"},
		Resources: small(),
	}
}

// Nginx serves script.NginxStatus. It needs the ConfigMap of Scripts.
func (m Maker) Nginx(container string) corev1.Container {
	return corev1.Container{
		Name:         container,
		Image:        m.Images.Nginx,
		Command:      []string{"nginx", "-c", scriptDir + "/nginx.conf"},
		Resources:    small(),
		VolumeMounts: []corev1.VolumeMount{{Name: scriptVolume, MountPath: scriptDir, ReadOnly: true}},
	}
}

// Scripts is the ConfigMap with the programs and configurations that are no part of an image.
func (m Maker) Scripts() *corev1.ConfigMap {
	return &corev1.ConfigMap{
		ObjectMeta: m.meta(scriptVolume),
		Data: map[string]string{
			"stepper.py": script.Python, "stepper.js": script.NodeJS, "Stepper.java": script.Java, "nginx.conf": script.Nginx,
		},
	}
}

// small requests little, so that all workloads of a test fit on one node.
func small() corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: corev1.ResourceList{
		corev1.ResourceCPU:    resource.MustParse("10m"),
		corev1.ResourceMemory: resource.MustParse("16Mi"),
	}}
}
