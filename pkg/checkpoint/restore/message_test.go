// SPDX-License-Identifier: Apache-2.0

package restore_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cryopod/cryopod/pkg/checkpoint/restore"
)

// mute is what follows where CRIU gave no reason.
const mute = " (it could not rebuild the process on this node; often a file was open in an emptyDir or in /dev/shm, which don't move)"

func TestTelling(t *testing.T) {
	id := strings.Repeat("0f", 32)
	for name, tc := range map[string]struct{ message, want string }{
		"empty": {"", ""},
		"criu, through runc, containerd and the kubelet": {
			`failed to restore containerd task: OCI runtime restore failed: criu failed: type NOTIFY errno 0` + "\n" +
				`path= /run/containerd/io.containerd.runtime.v2.task/k8s.io/` + id + `/restore.log: unknown`,
			"criu failed: type NOTIFY errno 0" + mute,
		},
		"a create that the runtime refuses": {
			`rpc error: code = Unknown desc = failed to create containerd task: failed to create shim task: ` +
				`OCI runtime create failed: runc create failed: unable to start container process: exec: "app": not found: unknown`,
			`runc create failed: unable to start container process: exec: "app": not found`,
		},
		"restore switched off": {
			"rpc error: code = Unknown desc = checkpoint restore via CreateContainer is disabled by configuration",
			"checkpoint restore via CreateContainer is disabled by configuration",
		},
		"a pull": {
			`Back-off pulling image "registry.local:5000/checkpoints/shop:cart-1.app": ErrImagePull: rpc error: code = NotFound desc = ` +
				`failed to pull and unpack image "registry.local:5000/checkpoints/shop:cart-1.app": failed to resolve reference ` +
				`"registry.local:5000/checkpoints/shop:cart-1.app": registry.local:5000/checkpoints/shop:cart-1.app: not found`,
			"registry.local:5000/checkpoints/shop:cart-1.app: not found",
		},
		"the base image": {
			`failed to pull checkpoint base image registry.local:5000/shop/cart@sha256:` + id + `: failed to resolve reference ` +
				`"registry.local:5000/shop/cart@sha256:` + id + `": failed to do request: Head "https://registry.local:5000/v2/shop/cart/manifests/sha256:` +
				id + `": http: server gave HTTP response to HTTPS client`,
			"the very image of registry.local:5000/shop/cart that it was saved on is not on the node and can't be pulled",
		},
		"only wrapping": {
			`rpc error: code = Unknown desc = `,
			"rpc error: code = Unknown desc =",
		},
		"an ID of a container": {
			"container " + id + " is not  running\n",
			"container is not running",
		},
		"nothing to cut": {"no space left on device", "no space left on device"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := restore.Telling(tc.message); got != tc.want {
				t.Errorf("Telling() =\n%q, want\n%q", got, tc.want)
			}
		})
	}
}

func TestTellingIsBounded(t *testing.T) {
	for name, message := range map[string]string{
		"ASCII":     strings.Repeat("word ", 200),
		"umlauts":   strings.Repeat("ö", 500),
		"not UTF-8": strings.Repeat("a\xff", 500),
	} {
		t.Run(name, func(t *testing.T) {
			got := restore.Telling(message)
			if len(got) > 300 || len(got) < 250 || !utf8.ValidString(got) {
				t.Errorf("%d bytes, valid UTF-8: %v: %q", len(got), utf8.ValidString(got), got)
			}
		})
	}
}
