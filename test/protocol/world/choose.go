// SPDX-License-Identifier: Apache-2.0

package world

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cryopod/cryopod/pkg/agent/fence"
)

// What may happen at a point otherwise than by the fair order.
const (
	fails    = "fails"
	lost     = "takes effect, and the answer is lost"
	crash    = "crashes before that, and is back soon"
	crash40  = "crashes before that, and is back after 40 s"
	cut45    = "is cut off from the API server for 45 s"
	doneCut  = "takes effect, and then the node is cut off for 100 s"
	lastNow  = "is slower than all others"
	stall5   = "stalls for 5 s"
	stall40  = "stalls for 40 s"
	stall100 = "stalls for 100 s"
	ahead    = "has its clock jump ahead by 45 s"
	back     = "has its clock jump back by 45 s"
	lags     = "does not see that for 3 s: "
	nodeCut  = "the node is cut off for 60 s"
	probe    = "a liveness probe has a frozen container restarted"
	ends     = "a restored container ends by itself"
)

const (
	soon      = 3 * time.Second
	long      = 40 * time.Second
	cutSpan   = 45 * time.Second
	nodeSpan  = 60 * time.Second
	nodeLong  = 100 * time.Second
	lagSpan   = 3 * time.Second
	clockJump = 45 * time.Second
)

var stalls = map[string]time.Duration{stall5: 5 * time.Second, stall40: long, stall100: 100 * time.Second}

// options are what may happen to the call instead of taking effect now.
func (w *World) options(o *op) []string {
	var out []string
	if o.asked || o.p.cutOff() {
		return nil
	}
	f := o.p.faults
	switch f {
	case steady:
		return []string{stall5, stall40}
	case clientFaults:
		out = append(out, fails, stall5, stall40)
	default:
		out = append(out, fails, crash)
		if o.kind != node {
			out = append(out, stall40)
		} else {
			out = append(out, stall5)
		}
	}
	if o.kind == write {
		out = append(out, lost)
	}
	if f != oursFaults || o.kind != write {
		return out
	}
	out = append(out, crash40, cut45, lastNow, stall5, stall100, ahead, back)
	if w.agent != nil && o.p == w.agent.Proc {
		out = append(out, doneCut)
	}
	for _, name := range slices.Sorted(maps.Keys(w.procs)) {
		if p := w.procs[name]; p.faults == oursFaults && !p.gone() {
			out = append(out, lags+name)
		}
	}
	return out
}

// point passes a point: it notes what might happen there, and gives what the plan says, empty for nothing.
func (w *World) point(where string, options []string) string {
	if len(options) == 0 {
		return ""
	}
	n := len(w.result.Points)
	w.result.Points = append(w.result.Points, Point{Where: where, Options: options})
	choice := w.plan[n]
	if choice == "" {
		return ""
	}
	if !slices.Contains(options, choice) {
		w.broken(fmt.Errorf("point %d (%s) has no option %q", n, where, choice))
		return ""
	}
	w.disturbed = true
	return choice
}

// decide lets the call take effect, or has something else happen.
func (w *World) decide(o *op) {
	choice := w.point(o.p.Name+" "+o.what, w.options(o))
	o.asked = true
	if choice != "" && choice != lost && choice != doneCut {
		w.tell(o.p.Name, o.what, "IT "+strings.ToUpper(choice))
	}
	switch choice {
	case fails:
		w.take(o)
		o.reply <- verdict{err: errCut}
	case lost:
		w.grant(o, true)
	case doneCut:
		w.grant(o, true)
		w.cutNode(w.nodes[0], nodeLong)
	case crash:
		w.crash(o.p, soon)
	case crash40:
		w.crash(o.p, long)
	case cut45:
		w.cutOff(o.p, cutSpan)
	case lastNow:
		o.last = true
	case stall5, stall40, stall100:
		o.after = time.Now().Add(stalls[choice])
	case ahead:
		o.p.clock.jump(clockJump)
	case back:
		o.p.clock.jump(-clockJump)
	default:
		if name, ok := strings.CutPrefix(choice, lags); ok {
			w.lag(w.procs[name], lagSpan)
		}
		w.grant(o, false)
	}
}

// crash ends a process, and begins its next life later. A leader is followed by another one.
func (w *World) crash(p *Proc, away time.Duration) {
	switch {
	case w.agent != nil && p == w.agent.Proc:
		n := w.agent.n
		w.stopAgent()
		w.at(time.Now().Add(away), func() {
			if !n.off {
				w.startAgent(n)
				w.tell("agent", "begins anew", "")
			}
		})
	case strings.HasPrefix(p.Name, "webhook"):
		w.kill(p)
		w.at(time.Now().Add(away), func() { w.startReplica(p.Name) })
	default:
		w.kill(p)
		w.at(time.Now().Add(away), func() { w.startLeader(p.Name) })
	}
	w.tell(p.Name, "is dead", "")
}

// meanwhile is a point between two calls, when nobody has anything to do: things happen to machines.
func (w *World) meanwhile() {
	var out []string
	n := w.nodes[0]
	if w.agent != nil && !w.agent.gone() && !w.agent.cutOff() {
		out = append(out, nodeCut)
		for _, c := range n.containers {
			if c.state == fence.Frozen {
				out = append(out, probe, "agent "+crash, "agent "+crash40)
				break
			}
		}
	}
	if w.script.Crashes {
		for _, c := range w.nodes[1].containers {
			if c.state == fence.Running && c.restored && w.nodes[1].repointed[c.image] {
				out = append(out, ends)
				break
			}
		}
	}
	choice := w.point("meanwhile", out)
	if choice == "" {
		return
	}
	w.tell("world", choice, "")
	switch choice {
	case nodeCut:
		w.cutNode(n, nodeSpan)
	case probe:
		w.endContainers(n, fence.Frozen)
	case ends:
		w.endContainers(w.nodes[1], fence.Running)
	case "agent " + crash:
		w.crash(w.agent.Proc, soon)
	case "agent " + crash40:
		w.crash(w.agent.Proc, long)
	}
}

// cutNode cuts a node off from the API server: its kubelet and its agent.
func (w *World) cutNode(n *Node, span time.Duration) {
	n.cut = time.Now().Add(span)
	for _, k := range w.kubelets {
		if k.n == n {
			w.cutOff(k.Proc, span)
		}
	}
	if w.agent != nil && w.agent.n == n && !w.agent.gone() {
		w.cutOff(w.agent.Proc, span)
	}
}

// cutOff cuts a process off: its requests fail, and it sees no change.
func (w *World) cutOff(p *Proc, span time.Duration) {
	p.cut = time.Now().Add(span)
	w.lag(p, span)
}

// endContainers ends the processes of the node's containers that are in the state.
func (w *World) endContainers(n *Node, s fence.State) {
	for _, c := range n.containers {
		if c.state == s && (s == fence.Frozen || c.restored) {
			c.become(fence.Gone)
			for _, k := range w.kubelets {
				if k.n == n {
					k.queue.add(key(c.pod))
				}
			}
		}
	}
}

// note adds the present state to those that the schedule came through.
func (w *World) note() {
	h := fnv.New64a()
	for _, pc := range w.checkpoints() {
		fmt.Fprint(h, pc.Name, pc.Status.Phase, len(pc.Status.Conditions))
		if c := pc.Status.Claim; c != nil {
			fmt.Fprint(h, c.PodName, c.PodUID)
		}
	}
	for _, pod := range w.pods() {
		fmt.Fprint(h, pod.Name, pod.UID, pod.Status.Phase, pod.DeletionTimestamp != nil, pod.Spec.NodeName, pod.Spec.Containers[0].Image)
	}
	for _, n := range w.nodes {
		fmt.Fprint(h, n.off, time.Now().Before(n.cut), len(n.archives))
		for _, c := range n.containers {
			fmt.Fprint(h, c.mem.name, c.state)
		}
	}
	for _, tag := range slices.Sorted(maps.Keys(w.images)) {
		fmt.Fprint(h, tag, w.images[tag].complete)
	}
	for _, name := range slices.Sorted(maps.Keys(w.procs)) {
		p := w.procs[name]
		fmt.Fprint(h, p.gone(), p.cutOff(), p.clock.offset.Load())
	}
	for _, o := range w.pending {
		fmt.Fprint(h, o.p.Name, o.what)
	}
	w.result.States = append(w.result.States, h.Sum64())
}
