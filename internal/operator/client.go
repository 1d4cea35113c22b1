package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// Client talks to the process that runs on a state directory.
type Client struct{ http http.Client }

// Dial gives a client for the process on dir; whether one runs shows at the first call (ErrNotRunning).
func Dial(dir string) *Client {
	return &Client{http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dial(ctx, dir)
	}}}}
}

// Status asks what runs.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Advance moves the simulated clock.
func (c *Client) Advance(ctx context.Context, by time.Duration) (s Status, err error) {
	return s, c.call(ctx, http.MethodPost, "/v1/simulate/advance", map[string]string{"By": by.String()}, &s)
}

// Fail makes a simulated driver fail.
func (c *Client) Fail(ctx context.Context, f Fault) error {
	return c.call(ctx, http.MethodPost, "/v1/simulate/fail", f, nil)
}

// Faults lists the failures still to come.
func (c *Client) Faults(ctx context.Context) (f []Fault, err error) {
	return f, c.call(ctx, http.MethodGet, "/v1/simulate/faults", nil, &f)
}

// Clear ends all failures.
func (c *Client) Clear(ctx context.Context) error {
	return c.call(ctx, http.MethodPost, "/v1/simulate/clear", struct{}{}, nil)
}

// AddUser adds a user to a simulated directory.
func (c *Client) AddUser(ctx context.Context, directory, name string) error {
	return c.call(ctx, http.MethodPost, "/v1/simulate/user", map[string]string{"Directory": directory, "Name": name}, nil)
}

// MakeUser makes a user in a directory, simulated or not.
func (c *Client) MakeUser(ctx context.Context, u NewUser) (m MadeUser, err error) {
	return m, c.call(ctx, http.MethodPost, "/v1/user", u, &m)
}

// Backup writes a backup of the running state to w.
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	r, err := c.send(ctx, http.MethodGet, "/v1/backup", nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if _, err := io.Copy(w, r.Body); err != nil {
		return fmt.Errorf("the backup broke off: %w", err)
	}
	return nil
}

func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	r, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if out == nil {
		return nil
	}
	return json.NewDecoder(r.Body).Decode(out)
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://operator"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r, err := c.http.Do(req)
	if err != nil {
		// What http adds to it names a URL that nobody has typed.
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, err
	}
	if r.StatusCode == http.StatusOK {
		return r, nil
	}
	defer r.Body.Close()
	var e struct{ Error string }
	if json.NewDecoder(r.Body).Decode(&e) != nil || e.Error == "" {
		return nil, fmt.Errorf("operator door: %s", r.Status)
	}
	return nil, errors.New(e.Error)
}
