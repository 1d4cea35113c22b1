package gateway

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxBody is the largest request of the portal, in bytes: two passwords and a name.
const maxBody = 16 << 10

// problem is the answer to what was not done.
type problem struct {
	// Code is for the page, Message for the person.
	Code    string `json:"code"`
	Message string `json:"message"`
	// ID is the decision's, which the person may quote and an administrator explain; empty when nothing was decided.
	ID string `json:"id,omitempty"`
}

func fail(w http.ResponseWriter, status int, code, message string) {
	failed(w, status, problem{Code: code, Message: message})
}

func failed(w http.ResponseWriter, status int, p problem) {
	reply(w, status, struct {
		Error problem `json:"error"`
	}{p})
}

func reply(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The page is gone when this fails.
	_ = json.NewEncoder(w).Encode(v)
}

// read decodes a request's body strictly, or answers.
func read[T any](w http.ResponseWriter, r *http.Request) (in T, ok bool) {
	if kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(kind), "application/json") {
		// A form of another site can post text, but not JSON.
		fail(w, http.StatusUnsupportedMediaType, "not-json", "The request must be JSON.")
		return in, false
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(&in)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return in, true
		}
	}
	fail(w, http.StatusBadRequest, "bad-request", "The request cannot be read.")
	return in, false
}

func seconds(d time.Duration) string { return strconv.Itoa(int((d + time.Second - 1) / time.Second)) }

// hexShort names a session in a log line.
func hexShort(id [sha256.Size]byte) string { return hex.EncodeToString(id[:6]) }
