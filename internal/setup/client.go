package setup

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carrel/internal/sigv4"
)

// maxAnswer bounds what is read of one answer, in bytes.
const maxAnswer = 4 << 20

// client calls the API door with the key of the files that carrel serve writes for AWS clients.
type client struct {
	http            http.Client
	endpoint        *url.URL
	region, id, key string
}

// APIError is what a service has refused, in its own words.
type APIError struct {
	Operation, Code, Message string
}

func (e *APIError) Error() string { return e.Operation + ": " + e.Code + ": " + e.Message }

// refused says whether err is a service's refusal with this code.
func refused(err error, code string) bool {
	var e *APIError
	return errors.As(err, &e) && e.Code == code
}

// dial reads the client files of the installation in dir.
func dial(dir string) (*client, error) {
	conf, err := profile(filepath.Join(dir, "aws", "config"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no installation in %s: start one with: carrel serve --state %s", dir, dir)
	}
	if err != nil {
		return nil, err
	}
	keys, err := profile(filepath.Join(dir, "aws", "credentials"))
	if err != nil {
		return nil, err
	}
	c := &client{region: conf["region"], id: keys["aws_access_key_id"], key: keys["aws_secret_access_key"]}
	if c.endpoint, err = url.Parse(conf["endpoint_url"]); err != nil {
		return nil, fmt.Errorf("%s: endpoint_url: %w", dir, err)
	}
	pem, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in it", filepath.Join(dir, "ca.pem"))
	}
	c.http = http.Client{Timeout: time.Minute, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	return c, nil
}

// profile reads the keys of a file with one AWS profile in it.
func profile(file string) (map[string]string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, found := strings.Cut(line, "="); found {
			out[strings.TrimSpace(name)] = strings.TrimSpace(value)
		}
	}
	return out, nil
}

// request is one call before it is signed.
type request struct {
	service, operation string
	path               string
	header             http.Header
	body               []byte
}

// json calls an operation of a service that speaks awsJson1.1; target is what stands before the operation in X-Amz-Target.
func (c *client) json(ctx context.Context, service, target string, in, out any) error {
	_, operation, _ := strings.Cut(target, ".")
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := c.do(ctx, request{service: service, operation: operation, path: "/", body: body,
		header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}, "X-Amz-Target": {target}}})
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// rest calls an operation of ds-data, which speaks restJson1: the input's members are all in the body, but for the directory.
func (c *client) rest(ctx context.Context, operation, directory string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := c.do(ctx, request{service: "ds-data", operation: operation, path: "/Users/" + operation + "?DirectoryId=" + url.QueryEscape(directory), body: body,
		header: http.Header{"Content-Type": {"application/json"}}})
	if err != nil {
		return err
	}
	return json.Unmarshal(answer, out)
}

// query calls an operation of ec2 without parameters.
func (c *client) query(ctx context.Context, operation string, out any) error {
	answer, err := c.do(ctx, request{service: "ec2", operation: operation, path: "/", body: []byte("Action=" + operation + "&Version=2016-11-15"),
		header: http.Header{"Content-Type": {"application/x-www-form-urlencoded; charset=utf-8"}}})
	if err != nil {
		return err
	}
	return xml.Unmarshal(answer, out)
}

// do signs and sends a request and gives the body of an answer that is no refusal.
func (c *client) do(ctx context.Context, r request) ([]byte, error) {
	path, query, _ := strings.Cut(r.path, "?")
	signer := sigv4.Signer{AccessKeyID: c.id, Secret: sigv4.Secret(c.key), Region: c.region, Service: r.service}
	signed := &sigv4.Request{Method: http.MethodPost, Path: path, RawQuery: query, Host: c.endpoint.Host, Header: r.header, Body: r.body}
	if err := signer.Sign(signed, time.Now()); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.endpoint.Scheme+"://"+c.endpoint.Host+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, err
	}
	req.Header = signed.Header
	answer, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.operation, err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", r.operation, err)
	}
	if answer.StatusCode == http.StatusOK {
		return body, nil
	}
	return nil, refusal(r.operation, answer, body)
}

// refusal reads an error in either of the two shapes: JSON of the JSON protocols, XML of ec2.
func refusal(operation string, answer *http.Response, body []byte) error {
	e := &APIError{Operation: operation, Code: answer.Header.Get("X-Amzn-Errortype"), Message: answer.Status}
	var j struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
		Upper   string `json:"Message"`
	}
	var x struct {
		Code    string `xml:"Errors>Error>Code"`
		Message string `xml:"Errors>Error>Message"`
	}
	switch {
	case json.Unmarshal(body, &j) == nil:
		if e.Code == "" {
			e.Code = j.Type
		}
		if text := j.Message + j.Upper; text != "" {
			e.Message = text
		}
	case xml.Unmarshal(body, &x) == nil && x.Code != "":
		e.Code, e.Message = x.Code, x.Message
	}
	// "prefix#Code:http://..." is the longest form there is.
	e.Code, _, _ = strings.Cut(e.Code, ":")
	e.Code = e.Code[strings.LastIndex(e.Code, "#")+1:]
	return e
}
