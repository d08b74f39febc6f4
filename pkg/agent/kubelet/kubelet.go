// SPDX-License-Identifier: Apache-2.0

// Package kubelet asks a node's kubelet for container checkpoints (kubernetes pkg/kubelet/server, POST /checkpoint).
package kubelet

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
)

// maxAnswer bounds what is read of an answer, in bytes.
const maxAnswer = 64 << 10

// Options say how to reach the kubelet.
type Options struct {
	// Address is the kubelet's host and port.
	Address string
	// CAFile has the certificates that may have signed the kubelet's.
	CAFile string
	// ServerName is what the kubelet's certificate must be for; empty means its address.
	ServerName string
	// TokenFile has the bearer token; it is read again when it rotates.
	TokenFile string
	// Insecure turns the verification of the kubelet's certificate off.
	Insecure bool
}

// Client talks to one kubelet. Its methods may be called concurrently.
type Client struct {
	base *url.URL
	http *http.Client
}

// Error is the kubelet's refusal, or what kept us from asking.
type Error struct {
	// Status is the HTTP status; 0 when there was no answer.
	Status int
	// Message is what of the kubelet's answer people may see: see Message.
	Message string
	// Hint says what to do about it; empty when there is nothing to say.
	Hint string

	answer string
	cause  error
}

// Answer is all that the kubelet answered. It has the runtime's words, and may have the container's: it goes into no log, no event and no
// status.
func (e *Error) Answer() string { return e.answer }

// Error implements error.
func (e *Error) Error() string {
	text := "kubelet: " + e.Message
	if e.Status != 0 {
		text = fmt.Sprintf("kubelet answered %d: %s", e.Status, e.Message)
	}
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

// Unwrap returns what kept us from asking.
func (e *Error) Unwrap() error { return e.cause }

// New returns a client of the kubelet.
func New(o Options) (*Client, error) {
	config := &rest.Config{
		Host:            "https://" + o.Address,
		BearerTokenFile: o.TokenFile,
		TLSClientConfig: rest.TLSClientConfig{CAFile: o.CAFile, ServerName: o.ServerName, Insecure: o.Insecure},
	}
	if o.Insecure {
		config.CAFile = ""
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the kubelet %q: %w", o.Address, err)
	}
	return &Client{base: &url.URL{Scheme: "https", Host: o.Address}, http: client}, nil
}

// Checkpoint makes the kubelet checkpoint a container and returns the archive's path on the node. The kubelet gives up after
// timeout, or when ctx ends.
func (c *Client) Checkpoint(ctx context.Context, namespace, pod, container string, timeout time.Duration) (string, error) {
	status, body, err := c.post(ctx, timeout, namespace, pod, container)
	if err != nil {
		return "", err
	}
	if status != http.StatusOK {
		return "", refusal(status, body)
	}
	var answer struct {
		Items []string `json:"items"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Items) != 1 || !path.IsAbs(answer.Items[0]) {
		return "", &Error{Status: status, Message: "no archive in the answer", answer: body, cause: err}
	}
	return answer.Items[0], nil
}

// Probe asks for the checkpoint of a pod that can't exist, and so finds out whether the kubelet would take a real request from
// us: nil means it would.
func (c *Client) Probe(ctx context.Context) error {
	status, body, err := c.post(ctx, 10*time.Second, "cryopod-system", "no.such.pod", "none")
	if err != nil {
		return err
	}
	if status == http.StatusNotFound && strings.Contains(body, "pod does not exist") {
		return nil
	}
	return refusal(status, body)
}

func (c *Client) post(ctx context.Context, timeout time.Duration, namespace, pod, container string) (int, string, error) {
	target := c.base.JoinPath("checkpoint", namespace, pod, container)
	seconds := max(1, int64(math.Ceil(timeout.Seconds())))
	target.RawQuery = url.Values{"timeout": {strconv.FormatInt(seconds, 10)}}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), nil)
	if err != nil {
		return 0, "", fmt.Errorf("making a request to the kubelet: %w", err)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return 0, "", unreachable(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return 0, "", unreachable(err)
	}
	return response.StatusCode, strings.TrimSpace(string(body)), nil
}

func refusal(status int, body string) error {
	e := &Error{Status: status, Message: Message(body), answer: body}
	switch {
	case status == http.StatusUnauthorized:
		e.Hint = "it does not accept the ServiceAccount's token: turn on webhook authentication in the kubelet's configuration"
	case status == http.StatusForbidden:
		e.Hint = `allow the agent's ServiceAccount the verb "create" on "nodes/checkpoint"`
	case status == http.StatusNotFound && strings.Contains(body, "does not exist"):
		e.Hint = "the pod or the container is gone from this node"
	case status == http.StatusNotFound || status == http.StatusMethodNotAllowed:
		e.Hint = "turn on the kubelet's feature gate ContainerCheckpoint and its debugging handlers"
	}
	return e
}

func unreachable(err error) error {
	e := &Error{Message: err.Error(), cause: err}
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var network net.Error
	switch {
	case errors.As(err, &unknown), errors.As(err, &host):
		e.Hint = "its certificate is not one of the cluster's: set --kubelet-ca to that certificate (self-signed: /var/lib/kubelet/pki/kubelet.crt) " +
			"and --kubelet-server-name to the name in it, or --kubelet-insecure-tls"
	case errors.As(err, &network) && !network.Timeout() && !errors.Is(err, context.Canceled):
		e.Hint = "check --kubelet-address and that the node lets its own pods reach it"
	}
	return e
}
