// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"io"
	"net/http"
)

// errAnswerTooLarge means that the registry sent more than an answer may have.
var errAnswerTooLarge = errors.New("registry's answer is too large")

// errRedirects means that the registry sent a request on and on.
var errRedirects = errors.New("registry redirects without end")

// mostRedirects is what net/http follows by itself. The client library follows as many as there are.
const mostRedirects = 10

// straight carries requests that were not redirected too often.
type straight struct{ inner http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (s straight) RoundTrip(req *http.Request) (*http.Response, error) {
	hops := 0
	for r := req; r.Response != nil && r.Response.Request != nil; r = r.Response.Request {
		if hops++; hops > mostRedirects {
			return nil, errRedirects
		}
	}
	return s.inner.RoundTrip(req)
}

// bounded carries requests whose answers have at most max bytes: the client library reads lists and manifests whole.
type bounded struct {
	inner http.RoundTripper
	max   int64
}

// RoundTrip implements http.RoundTripper.
func (b bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := b.inner.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: b.max}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

// Read implements io.Reader.
func (b *boundedBody) Read(p []byte) (int, error) {
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, errAnswerTooLarge
	}
	return n, err
}
