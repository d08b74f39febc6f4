// SPDX-License-Identifier: Apache-2.0

package machine

// MountTargets lists target and options of every line of a mountinfo text, for tests.
func MountTargets(text string) [][2]string {
	var all [][2]string
	for m := range mountLines([]byte(text)) {
		all = append(all, [2]string{m.target, m.superOptions})
	}
	return all
}

// Parsers of cgroup descriptions, for tests.
var (
	V1Controllers = v1Controllers
	MemberPath    = memberPath
	Within        = within
)

// InheritCPUs fills in a version 1 cpuset at path, for tests.
func InheritCPUs(path string) error { return Cgroup{Path: path}.inheritCPUs() }

// RemoveTree removes a cgroup's directories, for tests.
var RemoveTree = removeTree

// Supervise runs components as init does, with their logs in a directory of the test.
func Supervise(logs string, list []Component) *Supervisor {
	s := newSupervisor(logs, list)
	go s.run()
	return &Supervisor{s}
}

// Supervisor is the supervisor of a test.
type Supervisor struct{ s *supervisor }

// Set makes a component run or not.
func (s *Supervisor) Set(name string, wanted bool) error { return s.s.set(name, wanted) }

// Restart restarts a component.
func (s *Supervisor) Restart(name string) error { return s.s.restart(name) }

// Status describes a component.
func (s *Supervisor) Status(name string) ComponentStatus {
	for _, c := range s.s.list() {
		if c.Name == name {
			return c
		}
	}
	return ComponentStatus{}
}
