// SPDX-License-Identifier: Apache-2.0

package kubelet

import (
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
)

// phrases are what the kubelet, containerd and the kernel are known to say, with what stands for it.
var phrases = []struct {
	says *regexp.Regexp
	text string
}{
	{regexp.MustCompile(`pod does not exist`), "pod does not exist"},
	{regexp.MustCompile(`container \S+ does not exist`), "container does not exist"},
	{regexp.MustCompile(`(?i)only CONTAINER_RUNNING containers can be checkpointed`), "the container does not run"},
	{regexp.MustCompile(`not implemented`), "not implemented"},
	{regexp.MustCompile(`no space left on device`), "no space left on device"},
	{regexp.MustCompile(`disk quota exceeded`), "disk quota exceeded"},
	{regexp.MustCompile(`read-only file system`), "read-only file system"},
	{regexp.MustCompile(`(?i)context deadline exceeded|timed? ?out`), "it took too long"},
	{regexp.MustCompile(`context canceled`), "it was called off"},
	{regexp.MustCompile(`connection refused`), "connection refused"},
	{regexp.MustCompile(`permission denied`), "permission denied"},
	{regexp.MustCompile(`no such file or directory`), "no such file or directory"},
	{regexp.MustCompile(`cannot allocate memory`), "cannot allocate memory"},
	{regexp.MustCompile(`(?i)^unauthorized`), "unauthorized"},
	{regexp.MustCompile(`(?i)^forbidden`), "forbidden"},
	{regexp.MustCompile(`404 page not found`), "page not found"},
}

// code is how gRPC begins the text of an error.
var code = regexp.MustCompile(`rpc error: code = (\w+) desc`)

// unknown is the message of an answer of which nothing is known.
const unknown = "the reason is in the logs of the kubelet and of the container runtime"

// Message is what of a kubelet's answer people may see who may see the pod: the phrases in it that are known, and nothing else. An answer may
// quote the runtime, and that the container.
func Message(answer string) string {
	var said []string
	for _, p := range phrases {
		if p.says.MatchString(answer) {
			said = append(said, p.text)
		}
	}
	if m := code.FindStringSubmatch(answer); m != nil && m[1] != codes.Unknown.String() && isCode(m[1]) {
		said = append(said, "the container runtime answered "+m[1])
	}
	if len(said) == 0 {
		return unknown
	}
	return strings.Join(said, ", ")
}

func isCode(name string) bool {
	all := make([]string, codes.Unauthenticated+1)
	for c := range all {
		all[c] = codes.Code(c).String()
	}
	return slices.Contains(all, name)
}
