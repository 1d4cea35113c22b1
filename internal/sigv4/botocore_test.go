package sigv4

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestAgainstBotocore is figure R1 for botocore: random requests that it signed are verified, and signed again.
func TestAgainstBotocore(t *testing.T) {
	if testing.Short() {
		t.Skip("runs python3")
	}
	// A new seed each run finds new requests; it is printed, so that a failure can be had again.
	count := requests(t)
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	var stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "python3", "testdata/botocore_sign.py", strconv.FormatInt(seed, 10), strconv.Itoa(count))
	cmd.Stderr = &stderr
	// Read as they come: ten million requests are too many to hold.
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	n, v := 0, &Verifier{AllowQuery: true}
	for ; lines.Scan(); n++ {
		var c struct {
			Method, Path, Query, Host, Body string
			Presigned                       bool
			Token                           Secret
			Headers                         [][2]string
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		body, err := hex.DecodeString(c.Body)
		if err != nil {
			t.Fatal(err)
		}
		req := &Request{Method: c.Method, Path: c.Path, RawQuery: c.Query, Host: c.Host, Body: body, Header: http.Header{}}
		for _, h := range c.Headers {
			req.Header.Add(h[0], h[1])
		}
		if !agree(t, v, req) {
			t.Fatalf("botocore's signature is refused: %v\n%s", parseAndVerify(v, req, testExpect(), testSecret), lines.Bytes())
		}
		again := *req
		again.Header = req.Header.Clone()
		again.Header.Del("Authorization")
		s := testSigner()
		s.SessionToken = c.Token
		if c.Presigned {
			bare, _, _ := strings.Cut(again.RawQuery, "X-Amz-Algorithm=")
			again.RawQuery = strings.TrimSuffix(bare, "&")
			err = s.Presign(&again, testNow, time.Hour)
		} else {
			err = s.Sign(&again, testNow)
		}
		want, got := req.Header.Get("Authorization"), again.Header.Get("Authorization")
		if c.Presigned {
			_, want, _ = strings.Cut(req.RawQuery, "X-Amz-Signature=")
			_, got, _ = strings.Cut(again.RawQuery, "X-Amz-Signature=")
		}
		if err != nil || got != want {
			t.Fatalf("Signer makes %q, %v; botocore %q\n%s", got, err, want, lines.Bytes())
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("python3 with botocore is needed (apt install python3-botocore): %v\n%s", err, stderr.String())
	}
	if n != count {
		t.Errorf("%d requests, want %d", n, count)
	}
}
