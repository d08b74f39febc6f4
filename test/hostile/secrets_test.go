// SPDX-License-Identifier: Apache-2.0

// Package hostile_test drives the parts of Cryopod together against input that means harm.
package hostile_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/cryopod/cryopod/pkg/api/v1alpha1"
	"github.com/cryopod/cryopod/pkg/archive/archivetest"
)

// canary is in every secret that the tests plant. Nobody who may read logs, events, metrics or a PodCheckpoint may find it.
const canary = "c4n4ry"

// number is one that parsers quote.
const number = "55443322110099887766"

// secret is one, by the place where it was planted.
func secret(place string) string { return canary + "-" + place + "-5f3a9c7e" }

const (
	runcFails = `checkpointing of ns/web/app failed (rpc error: code = Unknown desc = checkpointing container "id-app" failed: runc did not terminate ` +
		`successfully: exit status 1: criu failed: type NOTIFY errno 0 path= /run/containerd/x/criu-dump.log)`
	// criuLog is a log of CRIU's with secrets in each line, among them what a process can choose: paths, names of sockets.
	criuLog = "(00.000100) Version: 4.2.1 (gitid c4n4ry-version-5f3a9c7e)\n" +
		"(00.000200) Warn  (criu/kerndat.c:1): environment c4n4ry-warning-5f3a9c7e\n" +
		"(00.000300) Error (criu/files-reg.c:1831): Can't open file data/c4n4ry-path-5f3a9c7e/x of PASSWORD=c4n4ry-env-5f3a9c7e " +
		"on /dev/shm/c4n4ry-shm-5f3a9c7e socket @c4n4ry-socket-5f3a9c7e 'c4n4ry-quoted-5f3a9c7e': No such file\n" +
		"(00.000400) Error (criu/cr-dump.c:2098): Dumping FAILED c4n4ry-after-5f3a9c7e\n"
)

// checkpoint is an archive full of secrets.
func checkpoint(change ...archivetest.Entry) []archivetest.Entry {
	all := []archivetest.Entry{
		archivetest.Dir("checkpoint/"),
		archivetest.File("checkpoint/"+secret("name")+".img", secret("content")),
		archivetest.File("checkpoint/pages-1.img", strings.Repeat(secret("memory"), 1000)),
		archivetest.File("config.dump", `{"id":"id-app","name":"`+secret("config")+`","rootfsImageRef":"`+secret("ref")+`"}`),
		archivetest.File("container.log", secret("log")),
		archivetest.File("dump.log", criuLog),
		archivetest.File("rootfs-diff.tar", archivetest.Changes(archivetest.File("etc/"+secret("changed"), secret("change")))),
		archivetest.File("spec.dump", `{"ociVersion":"1.2.0","process":{"env":["PASSWORD=`+secret("environment")+`"]}}`),
		archivetest.File("status.dump", `{"id":"id-app","annotations":{"a":"`+secret("annotation")+`"}}`),
	}
	for _, c := range change {
		for i := range all {
			if all[i].Header.Name == c.Header.Name {
				all[i] = c
				c.Header.Name = ""
				break
			}
		}
		if c.Header.Name != "" {
			all = append(all, c)
		}
	}
	return all
}

// trial is one way for a checkpoint to go.
type trial struct {
	archive []archivetest.Entry
	// status and answer are the kubelet's, in the place of an archive; log is CRIU's.
	status      int
	answer, log string
	// registry answers in the place of a real one; false leaves the request to that.
	registry func(w http.ResponseWriter, r *http.Request) bool
	phase    v1alpha1.Phase
	// says is in the status.
	says string
}

func fails(status int, body string, header ...string) func(http.ResponseWriter, *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		// As debug pages do: what it was asked, and with which credentials.
		user, password, _ := r.BasicAuth()
		_, _ = fmt.Fprintf(w, body, user+":"+password+" "+r.Header.Get("Authorization"))
		return true
	}
}

var trials = map[string]trial{
	"it is saved": {archive: checkpoint(), phase: v1alpha1.PhaseReady, says: "saved 1 container"},
	"CRIU refuses": {
		status: 500, answer: runcFails + secret("kubelet"), log: criuLog, phase: v1alpha1.PhaseFailed, says: "criu: Can't open file … of PASSWORD=… on /dev/shm/…",
	},
	"CRIU refuses without a log": {status: 500, answer: runcFails + secret("kubelet"), phase: v1alpha1.PhaseFailed, says: "criu: type NOTIFY errno 0"},
	"the kubelet fails":          {status: 500, answer: secret("kubelet") + " env PASSWORD=" + secret("env"), phase: v1alpha1.PhaseFailed, says: "the reason is in the logs"},
	"the disk is full": {
		status: 500, answer: "write /" + secret("path") + ": no space left on device", phase: v1alpha1.PhaseFailed, says: "kubelet answered 500: no space left on device",
	},
	"the kubelet refuses":        {status: 403, answer: "Forbidden (user=" + secret("user") + ")", phase: v1alpha1.PhaseFailed, says: "nodes/checkpoint"},
	"the kubelet talks nonsense": {status: 200, answer: `{"items":["` + secret("path") + `"]}`, phase: v1alpha1.PhaseFailed, says: "no archive in the answer"},
	"the kubelet points elsewhere": {
		status: 200, answer: `{"items":["/` + secret("path") + `/checkpoint-x.tar"]}`, phase: v1alpha1.PhaseFailed, says: "set --checkpoint-dir",
	},
	"a link":          {archive: checkpoint(archivetest.Entry{Header: link(secret("link"))}), phase: v1alpha1.PhaseFailed, says: "not a regular file"},
	"a climbing name": {archive: checkpoint(archivetest.File("../"+secret("climbing"), "")), phase: v1alpha1.PhaseFailed, says: "unsafe name"},
	"a long name":     {archive: checkpoint(archivetest.File(strings.Repeat(secret("long"), 100), "")), phase: v1alpha1.PhaseFailed, says: "too long"},
	"no JSON": {
		archive: checkpoint(archivetest.File("spec.dump", `{"process":`+secret("JSON"))), phase: v1alpha1.PhaseFailed, says: `"spec.dump": malformed`,
	},
	"a value of the wrong kind": {
		archive: checkpoint(archivetest.File("config.dump", `{"id":`+number+`}`)), phase: v1alpha1.PhaseFailed, says: `"config.dump": malformed`,
	},
	"of another container": {
		archive: checkpoint(archivetest.File("config.dump", `{"id":"`+secret("id")+`"}`)), phase: v1alpha1.PhaseFailed, says: "of another container",
	},
	"changed files that climb": {
		archive: checkpoint(archivetest.File("rootfs-diff.tar", archivetest.Changes(archivetest.File("../"+secret("changed"), "")))),
		phase:   v1alpha1.PhaseFailed, says: "unsafe name",
	},
	"the registry fails": {
		archive: checkpoint(), registry: fails(500, secret("body")+" %s"), phase: v1alpha1.PhaseFailed, says: "registry answered 500 Internal Server Error",
	},
	"the registry denies": {
		archive: checkpoint(), registry: fails(403, `{"errors":[{"code":"DENIED","message":"`+secret("message")+` %s","detail":"`+secret("detail")+`"}]}`),
		phase: v1alpha1.PhaseFailed, says: "registry answered 403 Forbidden (DENIED)",
	},
	"a code of its own": {
		archive: checkpoint(), registry: fails(400, `{"errors":[{"code":"`+secret("code")+` %s"}]}`), phase: v1alpha1.PhaseFailed, says: "registry answered 400 Bad Request",
	},
	"a strange challenge": {
		archive: checkpoint(), registry: fails(401, "%s", "WWW-Authenticate", `Bearer x="`+secret("challenge")+`"`), phase: v1alpha1.PhaseFailed, says: "registry",
	},
	"a token server that tells": {archive: checkpoint(), registry: tokens, phase: v1alpha1.PhaseFailed, says: "registry"},
	"a redirect with a signature": {
		archive: checkpoint(), registry: fails(307, "%s", "Location", "http://127.0.0.1:1/x?X-Amz-Signature="+secret("signature")), phase: v1alpha1.PhaseFailed,
		says: "connection refused",
	},
}

// tokens sends the client for a token, and answers there with something else.
func tokens(w http.ResponseWriter, r *http.Request) bool {
	if strings.HasPrefix(r.URL.Path, "/token") {
		user, password, _ := r.BasicAuth()
		_, _ = fmt.Fprintf(w, `{"secret":"%s","you":"%s:%s"}`, secret("token"), user, password)
		return true
	}
	return fails(401, "%s", "WWW-Authenticate", `Bearer realm="http://`+r.Host+`/token",service="x"`)(w, r)
}

// TestSecrets has the agent save a pod with secrets everywhere, in every way that it may fail, and looks for them in all that it tells.
func TestSecrets(t *testing.T) {
	for name, tc := range trials {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, tc)
			s.save()
			pc := s.checkpoint()
			if pc.Status.Phase != tc.phase || !strings.Contains(pc.Status.Message, tc.says) {
				t.Errorf("%s: %q, want %s with %q", pc.Status.Phase, pc.Status.Message, tc.phase, tc.says)
			}
			for what, text := range s.told() {
				for _, planted := range []string{canary, number} {
					if at := strings.Index(text, planted); at >= 0 {
						t.Errorf("%s has a secret: …%s…", what, text[max(at-200, 0):min(at+60, len(text))])
					}
				}
			}
			if left := s.archives(); len(left) != 0 {
				t.Errorf("archives are left: %v", left)
			}
			if (s.manifests() > 0) != (tc.phase == v1alpha1.PhaseReady) {
				t.Errorf("%d manifests were pushed", s.manifests())
			}
		})
	}
}
