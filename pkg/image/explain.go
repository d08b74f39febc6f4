// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// registryError is a failure at a registry in our words. What a registry writes into its answers, and into the addresses that it redirects to, gets
// into no log, no event and no status: it may be anything, the credentials that it was sent included.
type registryError struct {
	text  string
	cause error
}

// Error implements error.
func (e *registryError) Error() string { return e.text }

// Unwrap returns the client library's error. Its text is not to be shown.
func (e *registryError) Unwrap() error { return e.cause }

// codes are those of the OCI distribution specification, and what to do about them.
var codes = map[transport.ErrorCode]string{
	transport.BlobUnknownErrorCode: "", transport.BlobUploadInvalidErrorCode: "", transport.BlobUploadUnknownErrorCode: "",
	transport.DigestInvalidErrorCode: "", transport.ManifestBlobUnknownErrorCode: "", transport.ManifestInvalidErrorCode: "",
	transport.ManifestUnknownErrorCode: "", transport.ManifestUnverifiedErrorCode: "", transport.NameInvalidErrorCode: "",
	transport.NameUnknownErrorCode:     "the repository does not exist, or these credentials may not see it",
	transport.SizeInvalidErrorCode:     "",
	transport.TagInvalidErrorCode:      "",
	transport.UnauthorizedErrorCode:    "check the registry's credentials",
	transport.DeniedErrorCode:          "the credentials do not allow it, or a quota is used up",
	transport.UnsupportedErrorCode:     "",
	transport.TooManyRequestsErrorCode: "it limits the rate of requests",
	transport.UnknownErrorCode:         "", transport.UnavailableErrorCode: "", danglingTag: "",
}

// statuses are what to do about an answer that comes without a code.
var statuses = map[int]string{
	http.StatusUnauthorized:          "check the registry's credentials",
	http.StatusForbidden:             "the credentials do not allow it, or a quota is used up",
	http.StatusRequestEntityTooLarge: "a proxy before it, or it itself, does not take layers of that size",
	http.StatusTooManyRequests:       "it limits the rate of requests",
	http.StatusInsufficientStorage:   "its storage is full",
}

// explain makes an error that came out of the client library one that may be shown. Errors of this package, of package archive and of contexts
// stay as they are.
func explain(err error) error {
	var known *registryError
	var refused *archiveError
	var credentials *credentialsError
	var status *transport.Error
	switch {
	case err == nil, errors.As(err, &known), errors.As(err, &refused):
		return err
	case errors.As(err, &credentials):
		return &registryError{text: credentials.Error(), cause: err}
	case errors.Is(err, ErrTooMany):
		return &registryError{text: ErrTooMany.Error(), cause: err}
	case errors.Is(err, errAnswerTooLarge):
		return &registryError{text: errAnswerTooLarge.Error(), cause: err}
	case errors.Is(err, errRedirects):
		return &registryError{text: errRedirects.Error(), cause: err}
	case errors.As(err, &status):
		return &registryError{text: answered(status), cause: err}
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return &registryError{text: "registry did not answer in time", cause: err}
	}
	return &registryError{text: broken(err), cause: err}
}

// answered tells what a registry answered by numbers and codes that the specifications know.
func answered(e *transport.Error) string {
	text := fmt.Sprintf("registry answered %d", e.StatusCode)
	if known := http.StatusText(e.StatusCode); known != "" {
		text += " " + known
	}
	hint := statuses[e.StatusCode]
	var named []string
	for _, d := range e.Errors {
		if what, ok := codes[d.Code]; ok && !slices.Contains(named, string(d.Code)) {
			named = append(named, string(d.Code))
			if hint == "" {
				hint = what
			}
		}
	}
	if len(named) > 0 {
		text += " (" + strings.Join(named, ", ") + ")"
	}
	if hint != "" {
		text += ": " + hint
	}
	return text
}

// broken tells how the way to a registry and back failed, by the kind of the error.
func broken(err error) string {
	var name *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var number syscall.Errno
	var network net.Error
	switch {
	case errors.As(err, &name):
		return "registry's name can't be resolved"
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &invalid):
		return "registry's certificate is not one that is trusted here, or not for its name"
	case errors.As(err, &record):
		return "registry does not speak TLS"
	case errors.As(err, &number):
		return "connection to the registry failed: " + number.Error()
	case errors.As(err, &network) && network.Timeout():
		return "registry did not answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return "registry broke the connection off"
	}
	return "registry can't be reached, or answers what no registry should"
}
